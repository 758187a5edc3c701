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

"""What is known of a file of another machine: its size, and what tells its content from others."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.files import file_digest
from kuavo_bag_converter.support.places import masked

_CHECKSUMS = ('ETag', 'etag', 'blob_id', 'sha256', 'md5Hash', 'md5')
_TIMES = ('LastModified', 'last_modified', 'mtime', 'updated', 'created')


class RemoteFile(NamedTuple):
    """What is known of a file of another machine."""

    url: str
    """Without secrets."""
    bytes: int  # noqa: A003
    identity: str
    """What changes with its content: an ETag, a checksum or a time."""
    checksum: tuple[str, str] | None = None
    """Algorithm and hexadecimal digest of the content, where the storage gives one."""
    time_s: float = 0.0
    """When it was changed, if that is known."""

    @staticmethod
    def of(url: str, info: Mapping[str, Any]) -> RemoteFile:
        """
        Make it of what a file system says.

        :raises BagError: It does not tell the size.
        """
        if not isinstance(info.get('size'), int):
            raise BagError(f'{masked(url)}: its server does not tell its size')
        times = _times(info)
        found = [f'{name} {info[name]}' for name in _CHECKSUMS if info.get(name)]
        found += [f'{name} {time_s}' for name, time_s in times.items()]
        time_s = next(iter(times.values()), 0.0)
        return RemoteFile(
            masked(url), info['size'], found[0] if found else '', _checksum(info), time_s
        )

    def difference(self, path: Path) -> str:
        """Say in what the checksum of a file of this machine differs; '' if in nothing."""
        if self.checksum is None:
            return ''
        algorithm, there = self.checksum
        here = file_digest(path, hashlib.new(algorithm, usedforsecurity=False))
        return '' if here == there.lower() else f'its {algorithm} is {there}, and {here} here'


def _checksum(info: Mapping[str, Any]) -> tuple[str, str] | None:
    lfs = info.get('lfs')
    if lfs and getattr(lfs, 'sha256', None):
        return 'sha256', str(lfs.sha256)
    content = info.get('content_settings')
    md5 = content.get('content_md5') if isinstance(content, Mapping) else None
    if isinstance(md5, (bytes, bytearray)):
        return 'md5', bytes(md5).hex()
    if isinstance(info.get('md5Hash'), str):
        with suppress(ValueError):
            return 'md5', base64.b64decode(info['md5Hash']).hex()
    for name in ('sha256', 'md5'):
        if isinstance(info.get(name), str):
            return name, str(info[name])
    return None


def _times(info: Mapping[str, Any]) -> dict[str, float]:
    """Return the times of a file by name, s; libraries write them in many ways."""
    found: dict[str, float] = {}
    for name in _TIMES:
        value: Any = info.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = datetime.fromisoformat(value.replace('Z', '+00:00'))
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, (int, float)):
            found[name] = float(value)
    return found
