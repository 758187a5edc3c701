"""Checks a dataset by itself, and against its bags where they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kuavo_bag_converter.check.dataset import check_described
from kuavo_bag_converter.check.describe import describe
from kuavo_bag_converter.check.description import Description
from kuavo_bag_converter.check.findings import Finding, Findings
from kuavo_bag_converter.check.record import Record
from kuavo_bag_converter.conversion.options import shard_options
from kuavo_bag_converter.dataset.layout import PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.profiles.loader import load_profile
from kuavo_bag_converter.replay.bag import Replay
from kuavo_bag_converter.replay.bags import match_bags
from kuavo_bag_converter.replay.pictures import CameraSummary
from kuavo_bag_converter.settings import known_settings, settings_from


@dataclass(frozen=True)
class Verification:
    """What verifying a dataset came to."""

    root: Path
    episodes: int
    frames: int
    findings: tuple[Finding, ...]
    bags: tuple[str, ...] = ()
    """Bags that the dataset was compared with, by the path of the conversion."""
    not_compared: tuple[str, ...] = ()
    """Bags of the dataset that were not given."""
    others: tuple[str, ...] = ()
    """Given bags that are not in the dataset, with the reason where their conversion failed."""
    cameras: tuple[CameraSummary, ...] = ()
    timing: tuple[dict[str, Any], ...] = field(default=())
    """State minus picture, ms, by state topic and camera."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {
            'dataset': str(self.root),
            'ok': self.ok,
            'episodes': self.episodes,
            'frames': self.frames,
            'findings': [finding.as_json() for finding in self.findings],
            'bags': list(self.bags),
            'bags_not_compared': list(self.not_compared),
            'bags_not_in_dataset': list(self.others),
            'pictures': [camera.as_json() for camera in self.cameras],
            'state_minus_picture_ms': list(self.timing),
        }


def verify(
    root: Path, bags: Sequence[str] | None = None, sample: int | None = None
) -> Verification:
    """Check a dataset in full.

    Args:
        root: The dataset.
        bags: The bags that it was made from, or folders that hold them; an empty sequence means
            the recorded paths. None leaves the bags out.
        sample: Frames of each episode whose pictures are compared with the bags, each with its
            neighbours; None compares all.

    Raises:
        UsageError: There is no such folder, or the bags are not those of the dataset.

    """
    if not root.is_dir():
        raise UsageError(f'{root}: no such folder; give the root of a dataset')
    findings = Findings()
    dataset = describe(root, findings)
    if dataset is None:
        return Verification(root, 0, 0, tuple(findings))
    if bags is not None and dataset.record is None and not len(findings):
        raise UsageError(
            f'{root / REPORT_PATH}: missing; only a dataset that this converter made can be '
            'compared with its bags'
        )
    check_described(dataset, findings, 'full')
    frames = dataset.frames
    if bags is None or dataset.record is None:
        return Verification(root, len(dataset.episodes), frames, tuple(findings))
    matches = match_bags(dataset.record, bags, findings)
    try:
        replay = _replay(dataset, dataset.record, sample, findings)
    except UsageError as error:
        findings.add('conversion.unreadable', error, 'the settings and the profile of the bags')
        return Verification(root, len(dataset.episodes), frames, tuple(findings))
    for match in matches.found:
        replay.check(match)
    compared = [match.bag.name for match in matches.found]
    return Verification(
        root,
        len(dataset.episodes),
        frames,
        tuple(findings),
        tuple(compared),
        tuple(bag.name for bag in dataset.record.bags if bag.name not in compared),
        tuple(matches.others),
        tuple(replay.cameras.values()),
        tuple(
            {'state': entry.topic, 'picture': entry.camera, **entry.summary()}
            for entry in replay.timing.values()
        ),
    )


def _replay(dataset: Description, record: Record, sample: int | None, findings: Findings) -> Replay:
    known = known_settings()
    recorded = {name: value for name, value in record.settings.items() if name in known}
    settings = settings_from(recorded, str(dataset.root / REPORT_PATH))
    # Threads were chosen for the machine that converted; 0 takes this one's cores.
    options = shard_options(replace(settings, threads=0))
    profile = load_profile(dataset.root / PROFILE_PATH)
    return Replay(dataset, profile, options, settings.on_damage, sample, findings)
