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

"""What of the settings shapes a dataset, in a form that tells whether two runs want the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
import hashlib
import json
from pathlib import Path
import re
from typing import Any

from kuavo_bag_converter.dataset.record import LEROBOT
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.profiles.shipped import is_path
from kuavo_bag_converter.robots.resolve import digest_of, profile_version, resolve, robot_of
from kuavo_bag_converter.settings import known_settings, OF_A_RUN, recorded_values, Settings
from kuavo_bag_converter.support.plugins import installed_plugins
from kuavo_bag_converter.support.version import __version__

NOT_IN_THE_DATASET = (
    *OF_A_RUN, 'num_used', 'seed', 'threads', 'memory_limit_mb', 'chunk_size', 'reader',
    'on_error', 'on_change', 'stall_timeout_s', 'check_disk', 'debug_memory', 'tasks', 'modality',
)  # fmt: skip
"""Settings that do not change what a bag becomes, and ``tasks``, which is compared bag by bag."""


def configuration(
    settings: Settings, profile: Profile | None = None, *, with_task: bool = True
) -> dict[str, Any]:
    """
    Return everything that shapes a dataset, by name.

    Of files that settings name, the content counts, not where they are.

    :param settings: The settings.
    :param profile: What their profile was, if it is not read anew.
    :param with_task: Whether the text of the profile's task counts, and its name. Bags that are
        added to a dataset may have another one.
    """
    known = known_settings()
    values: dict[str, Any] = {
        name: value
        for name, value in recorded_values(settings).items()
        if name not in NOT_IN_THE_DATASET and (with_task or known[name].yaml != 'task')
    }
    if profile is None and robot_of(settings.profile) is None:
        profile = resolve(settings, ())
    if profile is None:
        version = profile_version(settings)
    else:
        version = digest_of(profile if with_task else replace(profile, name='', task=''))
    if version:
        values['profile'] = f'{Path(settings.profile).name} ({version})'
    values['msg_path'] = _definitions(settings.msg_path)
    return {'version': __version__, **installed_plugins(), **values}


def _definitions(folders: Sequence[str]) -> Any:
    """Return what stands for folders of .msg files: their number and a digest of them."""
    files = [
        (str(file.relative_to(folder)), file)
        for folder in folders
        for file in sorted(Path(folder).rglob('*.msg'))
    ]
    digest = hashlib.blake2b(digest_size=8)
    for name, file in files:
        data = file.read_bytes()
        digest.update(f'{name!r} {len(data)} '.encode() + data)
    return f'{len(files)} definitions ({digest.hexdigest()})' if folders else []


def of_today(before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a former version's unfinished run as it would be now."""
    # A shard is the same for a new dataset and for one that grows.
    now = {name: value for name, value in before.items() if name != 'appending'}
    profile, folders = now.get('profile'), now.get('msg_path')
    if isinstance(profile, str) and is_path(profile.partition(' (')[0]):
        now['profile'] = profile.rpartition('/')[2]
    if folders and isinstance(folders, list):
        now['msg_path'] = _definitions(folders)
    now.setdefault('dataset_format', LEROBOT)
    now.setdefault('labels', [])
    if now.get('depth_coding') == 'minmax8':
        now['depth_coding'] = 'original'
    return now


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name what differs between two configurations; '' if nothing does."""
    now = json.loads(json.dumps(now))
    return '; '.join(
        f'{key} was {before.get(key)!r}, now {now.get(key)!r}'
        for key in sorted({*before, *now})
        if _without_file_name(key, before.get(key)) != _without_file_name(key, now.get(key))
    )


def _without_file_name(key: str, value: Any) -> Any:
    """Leave of a profile from a file, whose name differs where it is an object, what is in it."""
    named = re.fullmatch(r'.* \(([0-9a-f]{16})\)', value) if key == 'profile' and value else None
    return named[1] if named else value
