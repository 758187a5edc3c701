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

"""A folder with recordings, the place of a dataset, and everything that the tool has not made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tiny_recordings import Pool, PROFILE

NO_FILES = ('an empty folder', 'a link', 'a link to nothing')


def snapshot(root):
    """Return the kind, rights and content of everything below a folder, by path as a text."""
    found = {}
    folders = [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    found[entry.path] = ('link', os.readlink(entry.path))
                elif entry.is_dir():
                    found[entry.path] = ('folder', entry.stat().st_mode)
                    folders.append(entry.path)
                else:
                    with open(entry.path, 'rb') as file:
                        found[entry.path] = ('file', entry.stat().st_mode, file.read())
    return found


def differences(before, after, but):
    paths = before.keys() | after.keys()
    changed = (path for path in paths if before.get(path) != after.get(path))
    return sorted(path for path in changed if but not in (Path(path), *Path(path).parents))


class Files(NamedTuple):
    """A recording on disk, whatever it holds at the time."""

    folder: Path
    """Relative to the site."""
    name: str
    suffixes: tuple[str, ...]

    def parts(self, site):
        """Return every file of it."""
        return [site / self.folder / f'{self.name}{suffix}' for suffix in self.suffixes]

    def given(self, site):
        """Return the paths that a user gives for it."""
        parts = self.parts(site)
        return [parts[0].parent] if self.suffixes[0].startswith('/') else parts


class World:
    """A site (recordings, and a dataset's place) and what is elsewhere; knows what others own."""

    def __init__(self, root, pool):
        self.world = root
        self.pool: Pool = pool
        self.site = root / 'site'
        self.theirs: dict[Path, tuple] = {}
        """What the tool did not make, as it must stay."""
        self.all_recordings: list[Files] = []
        self.count = 0
        self.put(self.site / 'robot.yaml', PROFILE.encode())
        self.put(root / 'elsewhere' / 'a file', b'mine')
        self.link(root / 'shortcut', 'site')

    @property
    def output(self):
        return self.site / 'data' / 'out'

    @property
    def workspace(self):
        return self.site / 'data' / 'out.unfinished'

    def put(self, path, data=b''):
        """Write a file of somebody else."""
        for folder in reversed(path.parents):
            if self.world in folder.parents and not folder.exists():
                folder.mkdir()
                self.theirs[folder] = ('folder', folder.lstat().st_mode)
        path.write_bytes(data)
        self.theirs[path] = ('file', path.lstat().st_mode, data)

    def link(self, path, target):
        """Make a symbolic link of somebody else."""
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        self.theirs[path] = ('link', str(target))

    def fresh(self, word):
        self.count += 1
        return f'{word} {self.count}'

    def forget(self, root):
        """Forget what the user has taken away."""
        for path in [path for path in self.theirs if path == root or root in path.parents]:
            del self.theirs[path]

    def own_all(self, root):
        """From now on nothing below a folder may change."""
        self.theirs[root] = ('folder', root.lstat().st_mode)
        self.theirs |= {Path(path): state for path, state in snapshot(root).items()}

    def make(self, path, kind):
        """Somebody else makes something where nothing is."""
        if kind == 'a file':
            self.put(path, b'theirs')
        elif kind == 'a folder':
            self.put(path / 'shards' / 'theirs.txt', b'theirs')
        elif kind == 'an empty folder':
            path.mkdir(parents=True)
            self.theirs[path] = ('folder', path.lstat().st_mode)
        else:
            folder = self.world / 'elsewhere' if kind == 'a link' else path / 'nothing'
            path.parent.mkdir(exist_ok=True)
            self.link(path, os.path.relpath(folder, path.parent))

    def record(self, content, damage, name):
        # A file of a split recording that is cut off need not be known as one of it.
        damage = 'broken' if damage and content == 'two files' else damage
        files = self.pool.files(content, damage)
        recording = Files(Path('recordings'), self.fresh(name), tuple(files))
        for path, data in zip(recording.parts(self.site), files.values(), strict=True):
            self.put(path, data)
        self.all_recordings.append(recording)
        return recording

    def named(self, name):
        """Return the recording of a name, in which what is not UTF-8 may be escaped."""
        for item in self.all_recordings:
            own = item.given(self.site)[0].name
            if name in (own, own.encode('utf-8', 'backslashreplace').decode()):
                return item
        raise AssertionError(f'{name}: is no recording')

    def exists(self, recording):
        return all(path.exists() for path in recording.parts(self.site))

    def content(self, recording):
        """Return which recording a path holds now, '' if it is damaged or is not there."""
        try:
            files = tuple(path.read_bytes() for path in recording.parts(self.site))
        except OSError:
            return ''
        content, damage = self.pool.content_of(files)
        return '' if damage else content

    def bytes_of(self, recording):
        return tuple(
            path.read_bytes() if path.exists() else b'' for path in recording.parts(self.site)
        )
