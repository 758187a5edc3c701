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

"""URLs of files on other machines: who opens them, and what is said when that fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import errno
import os
from typing import Any, TypeGuard

from kuavo_bag_converter.support.errors import BagError, ConverterError, UsageError
from kuavo_bag_converter.support.places import masked, plain_url

_EXTRAS = {
    's3': 's3', 's3a': 's3', 'gs': 'gs', 'gcs': 'gs', 'az': 'azure', 'abfs': 'azure',
    'abfss': 'azure', 'adl': 'azure', 'hf': 'hub', 'http': 'http', 'https': 'http',
}  # fmt: skip
"""Extras of setup.py that bring what opens a scheme."""
_LONG = 300
_full_urls: dict[str, str] = {}
"""URLs with their secrets by what they are without; kept in memory alone."""


def remember(urls: Iterable[str]) -> None:
    """Keep for this process what opens URLs that have secrets in them."""
    _full_urls.update({plain_url(url).rstrip('/'): url for url in urls if plain_url(url) != url})


def remembered() -> tuple[str, ...]:
    """Return the URLs that are kept, for other processes of the run."""
    return tuple(_full_urls.values())


def full_url(url: str) -> str:
    """Return a plain URL with its secrets, as far as they were given."""
    for plain, full in _full_urls.items():
        if url == plain:
            return full
        if url.startswith(f'{plain}/'):
            return full.rstrip('/') + url.removeprefix(plain)
    return url


def file_system(url: str) -> tuple[Any, str]:
    """
    Return the fsspec file system of a URL, and the path in it.

    :raises UsageError: What opens such URLs is not installed.
    """
    scheme = url.partition('://')[0]
    extra = _EXTRAS.get(scheme, 'remote')
    try:
        import fsspec

        with explained(url):
            found, path = fsspec.core.url_to_fs(full_url(url))
    except ImportError as error:
        raise UsageError(
            f'{masked(url)}: cannot be opened without {error.name or "another package"}; '
            f"install it: pip install 'kuavo_bag_converter[{extra}]'"
        ) from None
    return found, str(path)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """
    Say in one line what a library raises that works on a URL.

    :raises UsageError: Another setting or permission is needed.
    :raises BagError: It cannot be reached.
    """
    try:
        yield
    except (ConverterError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001  # libraries raise what they like
        raise failure(url, error) from None


def failure(url: str, error: BaseException) -> ConverterError:
    """
    Return what to say of a URL that cannot be read or written.

    :return: UsageError where another setting or permission is needed, else BagError.
    """
    name = masked(url)
    if isinstance(error, ValueError):
        return UsageError(
            f'{name}: {_reason(error)}; expected a path, or a URL such as s3://bucket/folder'
        )
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and _is_of_the_network(cause):
        return BagError(f'{name}: cannot be reached: {_reason(cause)}')
    if isinstance(error, FileNotFoundError):
        return UsageError(f'{name}: does not exist')
    kind = type(error).__name__
    if isinstance(error, PermissionError) or 'credential' in kind.lower():
        return UsageError(
            f'{name}: permission denied ({_reason(error)}); credentials are those that the '
            'library of the scheme finds (environment, its configuration files)'
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return BagError(f'{name}: the disk of spool_dir is full; make room, or set spool_dir')
    return BagError(f'{name}: cannot be reached: {_reason(error)}')


def _is_of_the_network(error: BaseException | None) -> TypeGuard[Exception]:
    """Tell whether it is what makes fsspec say of any http server that there is no file."""
    network = isinstance(error, ConnectionError | TimeoutError)
    return network or 'Connect' in type(error).__name__


def _reason(error: BaseException) -> str:
    text = masked(' '.join(str(error).split()))[:_LONG]
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        text = masked(error.strerror)[:_LONG] or os.strerror(error.errno)
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
