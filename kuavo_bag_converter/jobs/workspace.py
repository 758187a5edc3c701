"""The folder beside the output where a run keeps its work until the dataset is complete."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from kuavo_bag_converter.errors import UsageError

_NOTE = """\
This folder holds an unfinished conversion by kuavo_bag_converter. Run the same command again and
it goes on from here; delete the folder to begin anew. It is not a dataset.
"""


class Workspace:
    """``<output>.unfinished``: one shard for each finished bag, and what the run was asked for.

    Only one run may use it at a time. It disappears when the dataset is complete, or when a run
    ends without a single finished shard.
    """

    def __init__(self, output: Path, configuration: Mapping[str, object]) -> None:
        """Open or make the workspace of ``output``.

        Args:
            output: The dataset's root; must not exist.
            configuration: Everything that shapes the dataset, as JSON can hold it.

        Raises:
            UsageError: The output exists, cannot be made, is in use by another run, or its
                workspace belongs to another configuration.

        """
        if output.exists() or output.is_symlink():
            raise UsageError(
                f'{output}: exists already; choose another --output or remove it first'
            )
        self.output = output
        self.root = output.with_name(output.name + '.unfinished')
        try:
            self._made_parents = _make_folders(output.parent)
            self.root.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f'{self.root}: cannot be made: {error.strerror}') from error
        self._lock = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise UsageError(f'{self.root}: another conversion is writing here') from error
        try:
            self._check(dict(configuration))
        except BaseException:
            os.close(self._lock)
            raise
        self.shards = self.root / 'shards'
        self.shards.mkdir(exist_ok=True)
        self._clear_leftovers()

    def shard_path(self, identity: Mapping[str, object]) -> Path:
        """Return the place of the shard of a bag with this fingerprint."""
        text = json.dumps(identity, sort_keys=True)
        return self.shards / hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def dataset_path(self) -> Path:
        """Return an empty place for the dataset that is being put together."""
        path = self.root / 'dataset'
        shutil.rmtree(path, ignore_errors=True)
        return path

    def publish(self, dataset: Path) -> None:
        """Give the complete dataset its name; the workspace is gone afterwards."""
        dataset.rename(self.output)
        _sync(self.output.parent)
        self.remove()

    def remove(self) -> None:
        """Delete the workspace."""
        shutil.rmtree(self.root, ignore_errors=True)

    def close(self) -> None:
        """Let go of the workspace; without a finished shard it is removed."""
        if self.root.exists() and not any(self.shards.iterdir()):
            self.remove()
            if not self.output.exists():
                for folder in reversed(self._made_parents):
                    folder.rmdir()
        os.close(self._lock)

    def _check(self, configuration: dict[str, object]) -> None:
        note, job = self.root / 'README.txt', self.root / 'configuration.json'
        if not job.exists():
            note.write_text(_NOTE, encoding='utf-8')
            temporary = job.with_suffix('.tmp')
            temporary.write_text(json.dumps(configuration, indent=2), encoding='utf-8')
            temporary.rename(job)
            _sync(self.root)
            return
        before = json.loads(job.read_text(encoding='utf-8'))
        differing = sorted(
            key
            for key in {*before, *configuration}
            if before.get(key) != json.loads(json.dumps(configuration.get(key)))
        )
        if differing:
            what = '; '.join(
                f'{key} was {before.get(key)!r}, now {configuration.get(key)!r}'
                for key in differing
            )
            raise UsageError(
                f'{self.root}: an unfinished run has other settings ({what}); use the same '
                'settings to go on, or remove that folder to begin anew'
            )

    def _clear_leftovers(self) -> None:
        for item in self.shards.iterdir():
            if not (item / 'shard.json').exists():
                shutil.rmtree(item, ignore_errors=True)
        shutil.rmtree(self.root / 'dataset', ignore_errors=True)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that were not there, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return list(reversed(missing))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
