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

"""What a conversion of several bags to one dataset would refuse before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from kuavo_bag_converter.bags.discover import Recording
from kuavo_bag_converter.dataset.agreement import Agreement, ShardFormat
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.frames.preflight import try_bag
from kuavo_bag_converter.inspection.fit import with_refusal
from kuavo_bag_converter.inspection.report import BagReport
from kuavo_bag_converter.robots.resolve import RunProfile
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.texts import error_text


def refused_together(recordings: Sequence[Recording], settings: Settings) -> dict[Recording, str]:
    """
    Return what a conversion of recordings to one dataset says of those that it refuses at once.

    :raises UsageError: The settings name no profile or do not fit each other.
    """
    profile = RunProfile(settings)
    options = shard_options(settings)
    agreement = Agreement(settings.lerobot_version, None)
    forms: dict[Recording, ShardFormat] = {}
    lines: dict[Recording, str] = {}

    for recording in recordings:
        with _said(lines, recording):
            bound = try_bag(
                recording,
                profile.of,
                options,
                reader=settings.reader,
                on_damage=settings.on_damage,
            )
            if bound is not None:
                profile.settle(bound.binding.profile)
                forms[recording] = bound.shard_format
    agreement.settle({str(recording[0]): form for recording, form in forms.items()})
    for recording, form in forms.items():
        with _said(lines, recording):
            agreement.check(str(recording[0]), form)
    return lines


def refused_report(report: BagReport, line: str) -> BagReport:
    """Return the report of a bag that a conversion with others refuses."""
    if report.asked is None:
        return report
    misses = tuple(with_refusal(report.asked.misses, line))
    return replace(report, asked=replace(report.asked, fits=False, misses=misses))


@contextmanager
def _said(lines: dict[Recording, str], recording: Recording) -> Iterator[None]:
    """Keep what is said of a recording that is refused."""
    try:
        yield
    except (BagError, UsageError, OSError) as error:
        lines[recording] = error_text(error)
