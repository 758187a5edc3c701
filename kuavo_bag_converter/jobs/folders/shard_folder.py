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

"""The finished shards of a run, and those of an unfinished run that it goes on with."""

from __future__ import annotations

from collections.abc import Iterator
import hashlib
import json
import os
from pathlib import Path
import re

from kuavo_bag_converter.bags.fingerprint import Key
from kuavo_bag_converter.dataset.shard import MANIFEST
from kuavo_bag_converter.jobs.folders.dataset_files import remove_made
from kuavo_bag_converter.support.errors import UsageError

_OF_A_SHARD = re.compile(
    r'(data|alignment)\.parquet|shard\.json|episodes\.jsonl|probe\.[0-9a-f]+|'
    r'videos/[^/]+\.mp4|images/[^/]+\.parquet'
)
_FORMER_SHARD = re.compile(r'[0-9a-f]{12}-')
"""Named by path and fingerprint; today by content and path."""


class ShardFolder:
    """
    A folder of shards, each named by the content and the path of its bag.

    Processes that convert bags beside each other have one each, of the same folder.

    :ivar path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._former_of_content: dict[str, list[Path]] = {}
        """Shards of the unfinished run that is continued, by the content of their bags."""
        self._former_of_place: dict[str, list[Path]] = {}
        """Likewise, by the path of their bags."""

    def take_over(self) -> Iterator[str]:
        """Make the folder, or take what is finished in it; yield what became of the rest."""
        self.path.mkdir(exist_ok=True)
        for item in sorted(self.path.iterdir()):
            if _FORMER_SHARD.match(item.name):
                yield f'{item}: is of a former version; its bag is converted again'
                self.remove(item)
            elif not (item / MANIFEST).exists():
                self.remove(item)
            else:
                content, _, place = item.name.partition('-')
                self._former_of_content.setdefault(content, []).append(item)
                self._former_of_place.setdefault(place, []).append(item)

    def path_of(self, place: str, key: Key) -> Path:
        """Return where the shard of a recording belongs: its path is ``place``, without links."""
        return self.path / _shard_name(key, place)

    def finished(self, path: Path) -> Iterator[Path]:
        """Yield the shards of the content that belongs at ``path``: its own first, then others."""
        content = path.name.partition('-')[0]
        for shard in dict.fromkeys([path, *self._former_of_content.get(content, ())]):
            if (shard / MANIFEST).exists() and not shard.suffix:
                yield shard

    def forget_changed(self, path: Path, bag: str, *, redo: bool) -> None:
        """
        Remove what an earlier run made of a bag that has changed since.

        :raises UsageError: There is such a shard, and ``redo`` is not set.
        """
        for other in self._former_of_place.get(path.name.partition('-')[2], ()):
            if other == path or not other.exists():
                continue
            if not redo:
                raise UsageError(
                    f'{bag}: has changed since an unfinished run converted it; set on_change: '
                    f'redo to convert it again, or remove {self.path.parent}'
                )
            self.remove(other)

    def remove(self, shard: Path) -> None:
        """Delete a shard, finished or not."""
        if not shard.is_dir():
            return
        # The manifest first: what is left without it is not taken for a shard.
        (shard / MANIFEST).unlink(missing_ok=True)
        remove_made(shard, lambda path, _: _OF_A_SHARD.fullmatch(path) is not None)

    def clear(self) -> None:
        """Delete all shards, and the folder if nothing else is in it."""
        if self.path.is_dir():
            for shard in self.path.iterdir():
                self.remove(shard)
        remove_made(self.path, lambda *_: False)


def _shard_name(key: Key, place: str) -> str:
    content = hashlib.blake2b(json.dumps(key).encode(), digest_size=12).hexdigest()
    return f'{content}-{hashlib.blake2b(os.fsencode(place), digest_size=6).hexdigest()}'
