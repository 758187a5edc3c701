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

"""What fails for a moment, as networks do, is tried again."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import TypeVar

from kuavo_bag_converter.support.errors import Cancelled, ConverterError

ATTEMPTS = 4
ResultT = TypeVar('ResultT')


def with_retries(
    work: Callable[[], ResultT],
    failure: type[ConverterError],
    wait_s: float,
    cancel: threading.Event | None = None,
) -> tuple[ResultT, int]:
    """
    Do something; after a failure again, up to four times in all.

    :param work: It.
    :param failure: What it raises where it may be better a moment later.
    :param wait_s: How long to wait for the second attempt; for each later one twice as long.
    :param cancel: Set it to stop soon.
    :return: What ``work`` returns, and how often it had failed before.
    :raises ConverterError: It has failed each time, or in another way.
    :raises Cancelled: ``cancel`` was set.
    """
    cancel = cancel or threading.Event()
    retries = 0
    while True:
        try:
            return work(), retries
        except failure:
            retries += 1
            if retries >= ATTEMPTS:
                raise
        if cancel.wait(wait_s * 2 ** (retries - 1)):
            raise Cancelled
