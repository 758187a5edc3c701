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
