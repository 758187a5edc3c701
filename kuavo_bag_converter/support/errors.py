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

"""The errors that a user can cause; each message is one line that names the thing and the fix."""

from __future__ import annotations

from kuavo_bag_converter.support.places import with_urls
from kuavo_bag_converter.support.texts import one_line


class ConverterError(Exception):
    """Anything that stops a conversion and is not a defect of the converter."""

    def __init__(self, message: str = '') -> None:
        """Say in one line what it is; whatever the text contains, it stays one line."""
        super().__init__(one_line(with_urls(message)))


class UsageError(ConverterError):
    """Wrong use or configuration: settings, profile, output path (exit code 2)."""


class BagError(ConverterError):
    """One bag cannot be read or converted as asked (exit code 1, other bags go on)."""

    ordinal: int | None = None
    """Of the message that it is about, where whoever knows its stamp is to name it."""
    topic = ''
    """Of that message."""


class DamagedBagError(BagError):
    """A bag is damaged; what is left of it can be had with ``on_damage: salvage``."""


class ImageError(BagError):
    """One picture of a camera cannot be decoded; others may."""


class UnfitMessageError(BagError):
    """
    A message does not hold what is read of it; others of its topic may.

    Raised in the second pass for a ``topic``, it means that the first one must look into all
    messages of the topic, to find those that do.
    """

    def __init__(self, message: str = '', reason: str = '') -> None:
        """Say what is missing, and in short, as a ``reason`` to count the message by."""
        super().__init__(message)
        self.reason = reason


class MemoryLimitError(ConverterError):
    """What is to be done takes more memory than it may have."""


class BagMemoryError(MemoryLimitError, BagError):
    """A bag takes more than ``memory_limit_mb``; others may take less."""


class CodecMemoryError(MemoryLimitError, UsageError):
    """The encoders and libraries take more than ``memory_limit_mb`` before a bag is read."""


class StalledError(BagError):
    """A picture keeps its codec busy without end; its thread cannot be stopped."""


class DatasetError(ConverterError):
    """A dataset or a shard of it is incomplete, damaged or does not fit the others."""


class OutputError(ConverterError):
    """The place of the output cannot take what is to be written; no bag would fare better."""


class Cancelled(ConverterError):  # noqa: N818  # it is no error of anybody
    """The user asked to stop."""

    def __init__(self, remark: str = '') -> None:
        """Say what becomes of the work that is done, and add a remark."""
        text = 'cancelled; finished bags are kept for the next run'
        super().__init__(f'{text}; {remark}' if remark else text)
