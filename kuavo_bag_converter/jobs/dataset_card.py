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

"""The card of a dataset for the Hub, made of how it was converted; and whether it was edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import hashlib
import json
from pathlib import Path
import re
from typing import Any

from kuavo_bag_converter.dataset.layout import INFO_PATH
from kuavo_bag_converter.dataset.record import ConversionRecord, read_record
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES
from kuavo_bag_converter.jobs.topic_alignment import AlignmentSummary
from kuavo_bag_converter.support.errors import DatasetError, UsageError
from kuavo_bag_converter.support.texts import counted, listed, shown

_MARK = re.compile(r'<!-- kuavo_bag_converter ([0-9a-f]{32}) -->\n')
_SIZES = {
    1_000: 'n<1K',
    10_000: '1K<n<10K',
    100_000: '10K<n<100K',
    1_000_000: '100K<n<1M',
    10_000_000: '1M<n<10M',
    100_000_000: '10M<n<100M',
}
"""What the Hub calls datasets of fewer rows."""
_MOST_TASKS = 20
_NEEDED = ('codebase_version', 'fps', 'total_episodes', 'total_frames')
_HOUR = 3600


def dataset_card(root: Path, repo: str, licence: str, tags: Sequence[str]) -> str:
    """
    Return the card of a dataset.

    :param root: The dataset.
    :param repo: ``owner/name``, for how to load it.
    :param licence: As the Hub names it, such as ``apache-2.0``; '' for none.
    :param tags: Besides those that all such datasets have.
    :raises UsageError: There is no dataset.
    """
    info = _info(root)
    text = '\n'.join([*_header(info, licence, tags), '', *_body(root, info, repo), ''])
    digest = _digest(text)
    head, _, body = text.partition('\n---\n')
    return f'{head}\n---\n<!-- kuavo_bag_converter {digest} -->\n{body}'


def version_of(root: Path) -> str:
    """
    Return the version of LeRobot's format that a dataset has.

    :raises UsageError: There is no dataset.
    """
    return str(_info(root)['codebase_version'])


def is_edited(card: str) -> bool:
    """Tell whether somebody has changed a card since it was made, or has written it."""
    match = _MARK.search(card)
    return match is None or _digest(_MARK.sub('', card, count=1)) != match[1]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _info(root: Path) -> dict[str, Any]:
    try:
        info = json.loads((root / INFO_PATH).read_text(encoding='utf-8'))
        _ = [info[name] for name in _NEEDED], info['features'].items()
    except FileNotFoundError:
        raise UsageError(f'{root}: is no dataset of LeRobot: has no {INFO_PATH}') from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{root / INFO_PATH}: not a LeRobot info.json ({error!r})') from None
    return dict(info)


def _header(info: Mapping[str, Any], licence: str, tags: Sequence[str]) -> list[str]:
    frames = info['total_frames']
    size = next((name for limit, name in _SIZES.items() if frames < limit), 'n>100M')
    robot = [str(info['robot_type'])] if info.get('robot_type') else []
    every = list(dict.fromkeys(['LeRobot', *robot, *tags]))
    return [
        '---',
        *([f'license: {json.dumps(licence)}'] if licence else []),
        'task_categories:',
        '- robotics',
        'tags:',
        *(f'- {json.dumps(tag, ensure_ascii=False)}' for tag in every),
        'size_categories:',
        f'- {json.dumps(size)}',
        'configs:',
        '- config_name: default',
        '  data_files: data/*/*.parquet',
        '---',
    ]


def _body(root: Path, info: Mapping[str, Any], repo: str) -> list[str]:
    fps, frames = info['fps'], info['total_frames']
    hours = frames / fps / _HOUR
    lines = [
        f'# {repo.partition("/")[2]}',
        '',
        f'{counted(info["total_episodes"], "episode")} of the robot '
        f'{_cell(str(info.get("robot_type") or "unknown"))}: '
        f'{counted(frames, "frame")} at {fps:g} frames a second, {hours:.2f} hours, in the format '
        f'of [LeRobot](https://github.com/huggingface/lerobot) {info["codebase_version"]}.',
    ]
    record = _record(root)
    if record is not None:
        lines += ['', *_bags(record)]
    lines += ['', '## How to load it', '', *_loading(repo, str(info['codebase_version']))]
    lines += ['', '## What a frame holds', '', *_features(info['features'])]
    if record is not None:
        lines += ['', '## How exact its times are', '', *_times(record, fps)]
        lines += ['', '## How it was made', '', *_making(record)]
    return lines


def _record(root: Path) -> ConversionRecord | None:
    try:
        return read_record(root)
    except (FileNotFoundError, DatasetError, UsageError):
        return None


def _bags(record: ConversionRecord) -> list[str]:
    tasks: list[str] = []
    failed = 0
    converted = 0
    for bag in record.bags:
        converted += bag.converted
        failed += not bag.converted
        if bag.converted and bag.task and bag.task not in tasks:
            tasks.append(bag.task)
    lines = [f'Converted from {counted(converted, "recording")}; {failed} could not be.']
    if tasks:
        lines += ['', f'Tasks: {_cell(listed(tasks, _MOST_TASKS))}.']
    return lines


def _loading(repo: str, version: str) -> list[str]:
    needs = 'lerobot>=0.4' if version == 'v3.0' else 'lerobot<0.4'
    return [
        '```python',
        f'# pip install "{needs}"',
        'from lerobot.datasets.lerobot_dataset import LeRobotDataset',
        '',
        f'dataset = LeRobotDataset({repo!r})',
        '```',
    ]


def _features(features: Mapping[str, Any]) -> list[str]:
    usual = {feature.key for feature in DEFAULT_FEATURES}
    rows = ['| feature | kind | shape | elements |', '| --- | --- | --- | --- |']
    for key, entry in features.items():
        if key in usual:
            continue
        names = entry.get('names')
        picture = entry['dtype'] in ('video', 'image')
        elements = '' if picture or not isinstance(names, list) else listed(map(str, names), 40)
        shape = ' x '.join(map(str, entry['shape']))
        kind = entry['dtype']
        if picture and isinstance(entry.get('info'), Mapping):
            kind = f'{kind} ({entry["info"].get("video.codec", "")})'
        rows.append(f'| `{_cell(key)}` | {_cell(kind)} | {shape} | {_cell(elements)} |')
    return rows


def _times(record: ConversionRecord, fps: float) -> list[str]:
    summary = AlignmentSummary()
    for number, bag in enumerate(record.converted):
        summary.add(number, bag.plan)
    head = [
        'Time from a frame to the message that serves it, ms; the largest of all recordings. '
        f'*Far* are frames more than half a frame ({500 / fps:.1f} ms) from it.',
        '',
        '| topic | messages | used | repeated | median | p95 | max | far |',
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    return head + [
        f'| `{_cell(topic.topic)}` | {topic.messages} | {topic.used} | {topic.repeated} | '
        f'{topic.median_ms:.1f} | {topic.p95_ms:.1f} | {topic.max_ms:.1f} | '
        f'{topic.beyond_half_frame} |'
        for topic in summary.topics()
    ]


def _making(record: ConversionRecord) -> list[str]:
    shown_settings = ('lerobot_version', 'video', 'vcodec', 'crf', 'gop', 'pix_fmt', 'on_damage')
    found = [f'`{name}: {record.settings[name]}`' for name in shown_settings
             if name in record.settings]  # fmt: skip
    return [
        f'By kuavo_bag_converter, {", ".join(found)}. `conversion/` holds what a frame is made of '
        '(`profile.yaml`), what became of every recording, and which messages serve each frame.'
    ]


def _cell(text: str) -> str:
    """Let a text from elsewhere break no table."""
    return shown(text).replace('|', '\\|').replace('`', "'").replace('<', '&lt;')
