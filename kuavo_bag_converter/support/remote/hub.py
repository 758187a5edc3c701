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

"""Sends a folder to a dataset repository of the Hugging Face Hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
import hashlib
from pathlib import Path, PurePosixPath
import re
import sys
import tempfile
from typing import Any, NamedTuple

from kuavo_bag_converter.support.errors import ConverterError, OutputError, UsageError
from kuavo_bag_converter.support.files import file_digest
from kuavo_bag_converter.support.remote.retries import with_retries
from kuavo_bag_converter.support.texts import counted, error_text

MOST_FILES = 100_000
MOST_ENTRIES = 10_000
MOST_BYTES = 50 * 10**9
"""Limits of the Hub: files of a repository, entries of a folder, bytes of a file."""
_PER_COMMIT = 100
_WAIT_S = 1.0
_LONG = 300
_TOKEN = re.compile(r'\bhf_[A-Za-z0-9]{8,}\b')
_REPO = re.compile(r'[\w.\-]+/[\w.\-]+')
_TRANSIENT = (408, 429, 500, 502, 503, 504)
CARD = 'README.md'
_FOLDERS = ('data', 'videos', 'meta', 'images', 'conversion')
"""Where the files of a dataset are; others may hold what they like."""


class Sent(NamedTuple):
    """What has been sent."""

    files: int
    bytes: int  # noqa: A003
    unchanged: int
    """Files that were there already."""
    card_kept: bool
    """The card there was edited by somebody and stays."""
    interruptions: int

    @property
    def line(self) -> str:
        """Say it in a line."""
        there = f', {self.unchanged} were there already' if self.unchanged else ''
        return f'{counted(self.files, "file")} sent ({self.bytes / 1e6:.1f} MB){there}'


class HubRepository:
    """A dataset repository, which is made if it does not exist."""

    def __init__(self, name: str) -> None:
        """
        Name a repository.

        :param name: ``owner/name``.
        :raises UsageError: It is no such name, or huggingface_hub is not installed.
        """
        if not _REPO.fullmatch(name):
            raise UsageError(f'--repo: expected owner/name, found {name!r}')
        try:
            import huggingface_hub
            from huggingface_hub import errors
            from huggingface_hub.utils import disable_progress_bars
        except ImportError:
            raise UsageError(
                'push: cannot send without huggingface_hub; install it: pip install '
                "'kuavo_bag_converter[hub]'"
            ) from None
        self.name = name
        self._hub, self._errors = huggingface_hub, errors
        if not sys.stderr.isatty():
            disable_progress_bars()
        self._api = huggingface_hub.HfApi()
        self.interruptions = 0
        """How often something had to be tried again."""

    def files(self) -> dict[str, tuple[int, str]]:
        """
        Return the size and the digest of each file there; nothing if there is no repository.

        :raises UsageError: It must not be read.
        :raises OutputError: The Hub cannot be reached.
        """
        errors = self._errors
        with self._explained():
            try:
                tree = self._api.list_repo_tree(self.name, repo_type='dataset', recursive=True)
                return {
                    item.path: (item.size, item.lfs.sha256 if item.lfs else item.blob_id)
                    for item in tree
                    if hasattr(item, 'size')
                }
            except (
                errors.RepositoryNotFoundError,
                errors.EntryNotFoundError,
                errors.RevisionNotFoundError,  # nothing has been sent to it yet
            ):
                return {}

    def card(self) -> str:
        """
        Return the text of the card there, '' if there is none.

        :raises OutputError: The Hub cannot be reached.
        """
        with self._explained(), tempfile.TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(
                self.name, CARD, repo_type='dataset', local_dir=folder
            )
            return Path(path).read_text(encoding='utf-8', errors='replace')

    def create(self, *, private: bool | None) -> None:
        """
        Make the repository if it does not exist.

        :param private: Whether only its owner sees it; None leaves that to the owner's settings.
        :raises UsageError: It must not be made.
        :raises OutputError: The Hub cannot be reached.
        """
        with self._explained():
            self._api.create_repo(self.name, repo_type='dataset', private=private, exist_ok=True)
            if private and not self._api.repo_info(self.name, repo_type='dataset').private:
                raise UsageError(
                    f'{self.name}: is there already, and everybody can see it; make it private on '
                    'the Hub, or leave out --private'
                )

    def commit(self, message: str, add: Mapping[str, Path | bytes], delete: Sequence[str]) -> None:
        """
        Send files, and take others away, at once.

        :raises UsageError: That is not allowed.
        :raises OutputError: It has failed, also when tried again.
        """
        operations: list[Any] = [
            self._hub.CommitOperationAdd(path, str(data) if isinstance(data, Path) else data)
            for path, data in add.items()
        ]
        operations += [self._hub.CommitOperationDelete(path) for path in delete]
        if operations:
            self._try(
                lambda: self._api.create_commit(
                    self.name, operations, commit_message=message, repo_type='dataset'
                )
            )

    def tag(self, name: str) -> None:
        """
        Let a tag name what is there now, which LeRobot looks for.

        :raises OutputError: The Hub cannot be reached.
        """
        errors = self._errors

        def move() -> None:
            try:
                self._api.delete_tag(self.name, tag=name, repo_type='dataset')
            except (errors.RevisionNotFoundError, errors.EntryNotFoundError):
                pass
            except errors.HfHubHTTPError as error:
                if _status(error) != 404:
                    raise
            self._api.create_tag(self.name, tag=name, repo_type='dataset', exist_ok=True)

        self._try(move)

    def _try(self, work: Callable[[], object]) -> None:
        def explained() -> None:
            with self._explained():
                work()

        _, retries = with_retries(explained, _TransientError, _WAIT_S)
        self.interruptions += retries

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ConverterError:
            raise
        except Exception as error:  # noqa: BLE001  # of the library, and of what it is made of
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> ConverterError:
        errors = self._errors
        reason = _TOKEN.sub('hf_...', error_text(error))[:_LONG]
        status = _status(error)
        no_token = getattr(errors, 'LocalTokenNotFoundError', ())
        if status in (401, 403) or isinstance(error, no_token):
            return UsageError(
                f'{self.name}: must not be written with this login; log in with `hf auth login`, '
                f'or set HF_TOKEN to a token that may write there ({reason})'
            )
        if status is not None and status not in _TRANSIENT:
            return OutputError(f'{self.name}: the Hub refuses this: {reason}')
        if isinstance(error, ValueError):
            return UsageError(f'{self.name}: {reason}')
        return _TransientError(f'{self.name}: the Hub cannot be reached: {reason}')


class _TransientError(OutputError):
    """Something that may be better a moment later."""


def _status(error: Exception) -> int | None:
    found = getattr(getattr(error, 'response', None), 'status_code', None)
    return found if isinstance(found, int) else None


def check_limits(files: Mapping[str, Path], there: Sequence[str]) -> None:
    """
    Refuse what the Hub does not take.

    :param files: What is going to be sent, by its path there.
    :param there: What stays there.
    :raises UsageError: Names the limit, and what to do.
    """
    paths = {*files, *there}
    if len(paths) > MOST_FILES:
        raise UsageError(
            f'the dataset has {len(paths)} files, a repository of the Hub holds {MOST_FILES}; '
            'convert with lerobot_version: v3.0, which puts many episodes into a file, or to '
            'several datasets'
        )
    entries = Counter(folder for folder, _ in {pair for path in paths for pair in _lineage(path)})
    for folder, count in sorted(entries.items()):
        if count > MOST_ENTRIES:
            raise UsageError(
                f'{folder}: has {count} entries, a folder of the Hub holds {MOST_ENTRIES}; '
                'convert to several datasets, or move files of yours elsewhere'
            )
    for name, path in files.items():
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UsageError(
                f'{name}: has {size / 1e9:.1f} GB, a file of the Hub holds '
                f'{MOST_BYTES / 1e9:.0f}; split the recording, or move the file elsewhere'
            )


def _lineage(path: str) -> Iterator[tuple[str, str]]:
    """Yield each folder on a path with the entry of it that the path goes through."""
    whole = PurePosixPath(path)
    for one in (whole, *whole.parents):
        if str(one) != '.':
            yield str(one.parent), one.name


def send(
    repository: HubRepository,
    files: Mapping[str, Path],
    card: str,
    *,
    last: Sequence[str],
    is_edited: Callable[[str], bool],
    overwrite_card: bool,
    replace: bool,
    progress: Callable[[int, int], None],
) -> Sent:
    """
    Send files to a repository in commits of a hundred; what is there already is left out.

    :param repository: It.
    :param files: By their paths there, without a card.
    :param card: Text of the card.
    :param last: Paths of what is sent when all else is there, with the card.
    :param is_edited: Tells whether somebody has changed a card since it was made.
    :param overwrite_card: Whether such a card is overwritten.
    :param replace: Whether files are deleted that are there and not among ``files``.
    :param progress: Called with the number of files that are there, and of all.
    :raises UsageError: Something is there that is not of the dataset, or that is not allowed.
    :raises OutputError: Something could not be sent; the same again sends the rest.
    """
    there = repository.files()
    others = sorted(
        path for path in there.keys() - files.keys() if PurePosixPath(path).parts[0] in _FOLDERS
    )
    if others and not replace:
        raise UsageError(
            f'{repository.name}: holds {counted(len(others), "file")} of another dataset, such as '
            f'{others[0]}; choose another --repo, or delete them with --replace'
        )
    there_after = [path for path in there if path not in others]
    check_limits(files, there_after)
    known = repository.card() if CARD in there else ''
    card_kept = bool(known) and known != card and is_edited(known) and not overwrite_card
    left = [path for path in files if not _is_there(files[path], there.get(path))]
    early = [path for path in left if path not in last]
    done = len(files) - len(left)
    for start in range(0, len(early), _PER_COMMIT):
        batch = early[slice(start, start + _PER_COMMIT)]
        repository.commit('Add files of the dataset', {path: files[path] for path in batch}, ())
        done += len(batch)
        progress(done, len(files))
    final: dict[str, Path | bytes] = {path: files[path] for path in last if path in left}
    if known != card and not card_kept:
        final[CARD] = card.encode()
    repository.commit('Complete the dataset', final, others)
    size = sum(files[path].stat().st_size for path in left)
    return Sent(len(left), size, len(files) - len(left), card_kept, repository.interruptions)


def _is_there(path: Path, known: tuple[int, str] | None) -> bool:
    """Tell whether a file is there with the same content: as Git or its large files name that."""
    size = path.stat().st_size
    if known is None or known[0] != size:
        return False
    large = len(known[1]) == len(hashlib.sha256().hexdigest())
    digest = hashlib.sha256() if large else hashlib.sha1(usedforsecurity=False)
    if not large:
        digest.update(f'blob {size}\0'.encode())
    return file_digest(path, digest) == known[1]
