"""The folder beside the output where a run keeps its work until the dataset is complete."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kuavo_bag_converter.dataset.files import sync, write_text
from kuavo_bag_converter.errors import UsageError

_NOTE = """\
This folder holds an unfinished conversion by kuavo_bag_converter. Run the same command again and
it goes on from here; delete the folder to begin anew. It is not a dataset.

If there is a folder "previous" in it and the dataset beside it is gone, "previous" is that dataset:
the next run, or you, can move it back.
"""


class Workspace:
    """``<output>.unfinished``: a shard for each finished bag, and what the run was asked for.

    Only one run may use it at a time. It disappears when the dataset is complete, or when a run
    ends without a single finished shard.
    """

    def __init__(
        self,
        output: Path,
        configuration: Mapping[str, object],
        *,
        appending: bool = False,
        redo: bool = False,
    ) -> None:
        """Open or make the workspace of ``output``.

        Args:
            output: The dataset's root; must not exist, or must if ``appending``.
            configuration: Everything that shapes the dataset, as JSON can hold it.
            appending: The dataset is going to be replaced by a longer one.
            redo: Throw away what a run with another configuration left, in place of refusing.

        Raises:
            UsageError: The output exists or does not, cannot be made, is in use by another run,
                or its workspace belongs to another configuration.

        """
        self.output = output
        self.root = output.with_name(output.name + '.unfinished')
        self.shards = self.root / 'shards'
        self._previous = self.root / 'previous'
        if not appending and (output.exists() or output.is_symlink()):
            raise UsageError(
                f'{output}: exists already; choose another output, remove it, or set append'
            )
        try:
            self._made_parents = _make_folders(output.parent)
            self.root.mkdir(exist_ok=True)
            self._lock = os.open(self.root, os.O_RDONLY)
        except OSError as error:
            raise UsageError(f'{self.root}: cannot be made: {error.strerror}') from error
        try:
            self._enter(dict(configuration), appending=appending, redo=redo)
        except BaseException:
            os.close(self._lock)
            raise

    def _enter(self, configuration: dict[str, object], *, appending: bool, redo: bool) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f'{self.root}: another conversion is writing here') from error
        recover(self.output)
        if appending and not (self.output / 'meta' / 'info.json').exists():
            raise UsageError(f'{self.output}: is no dataset to append to')
        self.shards.mkdir(exist_ok=True)
        self._check({'appending': appending, **configuration}, redo=redo)
        for item in self.shards.iterdir():
            if not (item / 'shard.json').exists():
                shutil.rmtree(item, ignore_errors=True)
        shutil.rmtree(self.root / 'dataset', ignore_errors=True)

    def shard_path(self, bag: str, identity: Mapping[str, object]) -> Path:
        """Return the place of the shard of a bag with this fingerprint."""
        text = json.dumps(identity, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        return self.shards / f'{hashlib.blake2b(bag.encode(), digest_size=6).hexdigest()}-{digest}'

    def forget_changed(self, path: Path, bag: str, *, redo: bool) -> None:
        """Remove what an earlier run made of a bag that has changed since.

        Raises:
            UsageError: There is such a shard, and ``redo`` is not set.

        """
        for other in self.shards.glob(f'{path.name.partition("-")[0]}-*'):
            if other == path or other.suffix:
                continue
            if not redo:
                raise UsageError(
                    f'{bag}: has changed since an unfinished run converted it; set on_change: redo '
                    f'to convert it again, or remove {self.root}'
                )
            shutil.rmtree(other)

    def dataset_path(self) -> Path:
        """Return an empty place for the dataset that is being put together."""
        path = self.root / 'dataset'
        shutil.rmtree(path, ignore_errors=True)
        return path

    def publish(self, dataset: Path) -> None:
        """Give the complete dataset its name; the workspace is gone afterwards."""
        if self.output.exists():
            self.output.rename(self._previous)
        dataset.rename(self.output)
        sync(self.output.parent)
        self.remove()

    def remove(self) -> None:
        """Delete the workspace."""
        # The shards first: without them, what is left is not taken for work to go on with.
        shutil.rmtree(self.shards, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def close(self) -> None:
        """Let go of the workspace; without a finished shard it is removed."""
        if self.shards.exists() and not any(self.shards.iterdir()):
            self.remove()
            if not self.output.exists():
                for folder in reversed(self._made_parents):
                    folder.rmdir()
        os.close(self._lock)

    def _check(self, configuration: dict[str, object], *, redo: bool) -> None:
        job = self.root / 'configuration.json'
        if job.exists():
            before = json.loads(job.read_text(encoding='utf-8'))
            differing = differences(before, configuration)
            if not differing:
                return
            if not redo:
                raise UsageError(
                    f'{self.root}: an unfinished run has other settings ({differing}); use the '
                    'same ones to go on, set on_change: redo, or remove that folder'
                )
            shutil.rmtree(self.shards)
            self.shards.mkdir()
        write_text(self.root / 'README.txt', _NOTE)
        temporary = job.with_suffix('.tmp')
        write_text(temporary, json.dumps(configuration, indent=2))
        temporary.rename(job)
        sync(self.root)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def recover(output: Path) -> None:
    """Bring a dataset back that a run was about to replace when it was killed."""
    previous = output.with_name(output.name + '.unfinished') / 'previous'
    if previous.exists() and not output.exists():
        previous.rename(output)
    shutil.rmtree(previous, ignore_errors=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name what differs between two configurations; '' if nothing does."""
    now = json.loads(json.dumps(now))
    return '; '.join(
        f'{key} was {before.get(key)!r}, now {now.get(key)!r}'
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    )


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that were not there, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return list(reversed(missing))
