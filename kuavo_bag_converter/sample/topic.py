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

"""What a topic of a recording is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kuavo_bag_converter.sample.messages import Messages, Moment
from kuavo_bag_converter.sample.stamps import PublishTiming
from kuavo_bag_converter.sample.truth import Ramp

Build: TypeAlias = Callable[[Messages, Moment], Any]
"""Makes one message of a topic."""


@dataclass(frozen=True)
class Topic:
    """One topic of a recording."""

    name: str
    msgtype: str
    timing: PublishTiming
    build: Build
    has_header: bool = True
    latched: bool = False
    camera: str = ''
    """Name in the frame numbers; '' for anything but pictures."""
    in_order: bool = False
    """Messages must be made one after the other."""
    clock: str = ''
    """Name of the topic whose header stamps this one shares; '' for its own."""
    ramps: dict[str, Ramp] = field(default_factory=dict)
