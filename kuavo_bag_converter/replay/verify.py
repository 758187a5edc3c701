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

"""Checks a dataset by itself, and against its bags where they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.check.dataset import check_described
from kuavo_bag_converter.check.description import describe, Description
from kuavo_bag_converter.check.findings import Finding, Findings
from kuavo_bag_converter.check.videos import AccessCost
from kuavo_bag_converter.dataset.layout import REPORT_PATH
from kuavo_bag_converter.dataset.record import ConversionRecord, format_of, LEROBOT
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.replay.bag import Replay
from kuavo_bag_converter.replay.bags import match_bags
from kuavo_bag_converter.replay.opinion import BagOpinion
from kuavo_bag_converter.replay.pictures import CameraSummary
from kuavo_bag_converter.replay.plain_recording import OpinionSummary
from kuavo_bag_converter.replay.plans import StateMinusPicture, summarise
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import as_paths, Paths
from kuavo_bag_converter.support.texts import aligned, visible

_SHOWN = 40
"""Findings that the text shows; JSON has all of them."""
_WIDTH = 60
"""Characters of a value that the text shows."""


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
    access: Mapping[str, AccessCost] = field(default_factory=dict)
    """What reading frames at random costs, by camera in videos."""
    cameras: tuple[CameraSummary, ...] = ()
    timing: tuple[StateMinusPicture, ...] = ()
    opinion: OpinionSummary | None = None
    """What a second opinion has looked at, if one was asked for."""

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
            'random_access': [
                {'feature': key, 'decoded_mean': round(cost.mean, 3), 'decoded_most': cost.most}
                for key, cost in self.access.items()
            ],
            'pictures': [camera.as_json() for camera in self.cameras],
            'state_minus_picture_ms': list(map(asdict, self.timing)),
            'independent': None if self.opinion is None else self.opinion.as_json(),
        }


def verify(
    dataset: str | Path,
    bags: Paths | None = None,
    sample: int | None = None,
    independent: int | None = None,
) -> Verification:
    """
    Check a dataset in full.

    :param dataset: Its folder.
    :param bags: The bags that it was made from, or folders that hold them; an empty sequence means
        the recorded paths. None leaves the bags out.
    :param sample: Frames of each episode whose pictures are compared with the bags, each with its
        neighbours, 2 at least; None compares all.
    :param independent: Frames of each episode on which other code than the converter's gives its
        opinion too, 2 at least; None asks for none. Needs ``bags``.
    :raises UsageError: There is no such folder, or the bags are not those of the dataset.
    """
    for name, frames in (('sample', sample), ('independent', independent)):
        if frames is not None and frames < 2:
            raise UsageError(f'{name}: expected at least 2 frames, found {frames}')
    if independent is not None and bags is None:
        raise UsageError('independent: needs the bags, to compare the dataset with them')
    paths = None if bags is None else as_paths(bags)
    return _verify(Path(dataset), paths, sample, independent)


def _verify(
    root: Path, bags: Sequence[Path] | None, sample: int | None, independent: int | None
) -> Verification:
    if not root.is_dir():
        raise UsageError(f'{root}: no such folder; give the root of a dataset')
    if (name := format_of(root)) != LEROBOT:
        raise UsageError(f'{root}: is of the format {name}, which cannot be checked')
    findings = Findings()
    dataset = describe(root, findings)
    if dataset is None:
        return Verification(root, 0, 0, tuple(findings))
    if bags is not None and dataset.record is None and not len(findings):
        raise UsageError(
            f'{root / REPORT_PATH}: missing; only a dataset that this converter made can be '
            'compared with its bags'
        )
    access = check_described(dataset, findings, 'full')
    frames = dataset.frames
    if bags is None or dataset.record is None:
        return Verification(root, len(dataset.episodes), frames, tuple(findings), access=access)
    matches = match_bags(dataset.record, bags, findings)
    try:
        replay = _replay(dataset, dataset.record, sample, findings)
    except UsageError as error:
        findings.add('conversion.unreadable', error, 'the settings and the profile of the bags')
        return Verification(root, len(dataset.episodes), frames, tuple(findings), access=access)
    opinion = None if independent is None else OpinionSummary()
    for match in matches.found:
        replay.check(match)
        if opinion is not None and independent is not None:
            BagOpinion(
                dataset,
                match.bag,
                match.files,
                replay.profile,
                replay.options.definitions,
                findings,
                opinion,
                independent,
            ).judge()
    compared = [match.bag.name for match in matches.found]
    numbers = {match.bag.number for match in matches.found}
    return Verification(
        root,
        len(dataset.episodes),
        frames,
        tuple(findings),
        tuple(compared),
        tuple(bag.name for bag in dataset.record.converted if bag.number not in numbers),
        tuple(matches.others),
        access,
        tuple(replay.cameras.values()),
        tuple(summarise(replay.distances)),
        opinion,
    )


def _replay(
    dataset: Description, record: ConversionRecord, sample: int | None, findings: Findings
) -> Replay:
    settings = record.known_settings(str(dataset.root / REPORT_PATH))
    # Threads were chosen for the machine that converted; 0 takes this one's cores.
    options = shard_options(replace(settings, threads=0))
    # Which cameras auto copies depended on all bags.
    encoded = {c.key for c in dataset.cameras if not (c.has_copied_jpegs or c.has_copied_stream)}
    options = replace(options, encoded=frozenset(encoded))
    return Replay(dataset, dataset.profile, options, settings.on_damage, sample, findings)


def as_json(result: Verification) -> str:
    """Return everything that was found."""
    return json.dumps(result.as_json(), indent=2, ensure_ascii=False)


def as_text(result: Verification) -> str:
    """Return what was found in short."""
    return '\n'.join(map(visible, _lines(result)))


def _lines(result: Verification) -> Iterator[str]:
    yield f'{result.root}: {result.episodes} episodes, {result.frames} frames'
    if result.bags:
        yield f'compared with {len(result.bags)} bags'
    if result.not_compared:
        yield f'not compared: {len(result.not_compared)} bags that were not given'
    for bag in result.others[:_SHOWN]:
        yield f'not in the dataset: {bag}'
    if len(result.others) > _SHOWN:
        yield f'not in the dataset: {len(result.others) - _SHOWN} more; --json has all of them'
    if result.access:
        yield ''
        yield from aligned(
            [
                ('random access', 'pictures decoded for a frame', 'at most'),
                *(
                    (key, f'{cost.mean:.1f}', str(cost.most))
                    for key, cost in result.access.items()
                ),
            ]
        )
    if result.cameras:
        yield ''
        yield from aligned(
            [
                ('pictures', 'frames', 'compared', 'coding loss', 'too alike'),
                *(
                    (
                        camera.key,
                        str(camera.frames),
                        _how(camera),
                        '' if camera.loss is None else f'{camera.loss:.2f}',
                        '' if camera.exact else f'{camera.still} of {camera.pairs} pairs',
                    )
                    for camera in result.cameras
                ),
            ]
        )
    if result.timing:
        yield ''
        yield from aligned(
            [
                ('state minus picture', '', 'median ms', 'p95 ms', 'max ms'),
                *(
                    (
                        item.state,
                        item.picture,
                        *map('{:.1f}'.format, (item.median, item.p95, item.max)),
                    )
                    for item in result.timing
                ),
            ]
        )
    if result.opinion is not None:
        yield ''
        yield (
            f'independent opinion on {result.opinion.frames} frames: {result.opinion.values} '
            f'values, {result.opinion.pictures} pictures'
        )
        for what, times in result.opinion.not_judged.items():
            yield f'not judged: {what} ({times} times)'
    yield ''
    if result.ok:
        yield 'nothing is wrong'
        return
    yield f'{len(result.findings)} things are wrong:'
    rows = [_row(finding) for finding in result.findings[:_SHOWN]]
    yield from aligned([('rule', 'where', 'found', 'expected'), *rows])
    if len(result.findings) > _SHOWN:
        yield f'... and {len(result.findings) - _SHOWN} more; --json has all of them'


def _how(camera: CameraSummary) -> str:
    """Say how the pictures of a camera were compared."""
    if camera.exact and camera.encoded:
        return f'exactly, {camera.encoded} by likeness'
    return 'exactly' if camera.exact else 'by likeness'


def _row(finding: Finding) -> tuple[str, ...]:
    where = [finding.file, finding.feature]
    if finding.episode is not None:
        where.append(f'episode {finding.episode}')
    if finding.frame is not None:
        where.append(f'frame {finding.frame}')
    if finding.places > 1:
        where.append(f'{finding.places} places')
    place = ', '.join(part for part in where if part)
    return finding.rule, place, _short(finding.found), _short(finding.expected)


def _short(text: str) -> str:
    text = ' '.join(text.split())
    return text if len(text) <= _WIDTH else f'{text[:_WIDTH]}...'
