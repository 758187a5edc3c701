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

"""Codecs and passes that never come back, in this process and in one of its own."""

from __future__ import annotations

import threading

from kuavo_bag_converter.messages.codecs import PictureCodec


class StuckDecoder:
    """Holds the first thread of a name that decodes a picture until ``release``; others go on."""

    def __init__(self, monkeypatch, when_stuck=lambda: None, name='worker'):
        self.thread = None
        self._released = threading.Event()
        real, once = PictureCodec.decode, threading.Lock()

        def decode(codec, data):
            if threading.current_thread().name.startswith(name) and once.acquire(False):
                self.thread = threading.current_thread()
                when_stuck()
                self._released.wait()
            return real(codec, data)

        monkeypatch.setattr(PictureCodec, 'decode', decode)

    def release(self):
        """Let the worker go on, and wait until it has ended."""
        self._released.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


DECODER_HANGS = """
import threading
from kuavo_bag_converter.messages.codecs import PictureCodec

real = PictureCodec.decode

def decode(codec, data):
    if threading.current_thread().name.startswith('worker'):
        print('stuck', flush=True)
        threading.Event().wait()
    return real(codec, data)

PictureCodec.decode = decode
"""
"""Program text: the workers get stuck at their first picture."""

DECODER_IS_SLOW = """
import threading, time
from kuavo_bag_converter.messages.codecs import PictureCodec

real = PictureCodec.decode

def decode(codec, data):
    if threading.current_thread().name.startswith('worker'):
        time.sleep(0.5)
    return real(codec, data)

PictureCodec.decode = decode
"""
"""Program text: each picture takes the workers half a second."""

PASS_HANGS = """
import signal, threading, time
import kuavo_bag_converter.jobs.shard

def plan_bag(*_):
    print('stuck', flush=True)
    while signal.getsignal(signal.SIGINT) != signal.SIG_DFL:
        time.sleep(0.01)
    print('cancelled', flush=True)
    threading.Event().wait()

kuavo_bag_converter.jobs.shard.plan_bag = plan_bag
"""
"""Program text: pass 1 gets stuck, and says when the process was asked to stop."""


def wait_for_line(process, text):
    """Read what a process prints until a line has a text."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f'ended with {process.wait()} before it said {text!r}')
