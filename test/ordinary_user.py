# Copyright 2026 The kuavo_bag_converter maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""What an ordinary user meets, also in a suite that root runs."""

from __future__ import annotations

import codecs
import gc
import json
import os
import traceback

import pyarrow.compute  # noqa: F401

# From a Python in root's home nobody else can import what a conversion imports only when it needs
# it: this, and the module above.
codecs.lookup('ascii')


def as_nobody(function):
    """Run a function without the rights of root; it returns what JSON can hold."""
    if os.geteuid() != 0:
        return function()
    read, write = os.pipe()
    gc.collect()  # what pyarrow left behind in this process must not be closed in the other
    process = os.fork()
    if process == 0:
        try:
            os.setgroups([])
            os.setegid(65534)
            os.seteuid(65534)
            text = json.dumps([function(), ''])
        except BaseException:  # noqa: BLE001  # passed on
            text = json.dumps([None, traceback.format_exc()])
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding='utf-8') as stream:
        result, error = json.load(stream)
    os.waitpid(process, 0)
    assert not error, error
    return result
