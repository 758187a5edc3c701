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

"""
What files of other machines are called: by their URL, wherever a copy of them is worked on.

The copy of ``s3://lab/runs/1.bag`` lies in ``spooled-<digest>/runs/1.bag`` of a spool, and
``spooled-<digest>/objects/url`` says what ``spooled-<digest>/runs`` stands for.
"""

from __future__ import annotations

from functools import lru_cache
import os
from pathlib import Path
import re
from urllib.parse import unquote

SPOOLED = 'spooled-'
"""How the name of a folder begins that stands for a folder of another machine."""
OBJECTS = 'objects'
"""Beside the copies: what is known of each of them."""
FOLDER_URL = 'url'
_SPOOLED = re.compile(rf'(?P<spooled>/[^\s:;,\'"]*/{SPOOLED}[0-9a-f]{{16}})/[^/\s:;,\'"]+')
_URL = re.compile(r'[a-zA-Z][a-zA-Z0-9+.\-]+://[^/]')
_NORMALISED = re.compile(r'^([a-zA-Z][a-zA-Z0-9+.\-]+):/(?=[^/])')
_FILE = re.compile(r'^file:(//(localhost)?)?(?=/[^/])')
_USER = re.compile(r'([a-zA-Z][a-zA-Z0-9+.\-]*://)[^/@\s]*@')
_QUERY = re.compile(r'([a-zA-Z][a-zA-Z0-9+.\-]*://[^\s?\'"]*\?)[^\s\'"]*=[^\s\'"]*[^\s\'":;,.]')


def is_url(text: str) -> bool:
    """Tell whether a setting is a URL, and no path of this machine."""
    return _URL.match(text) is not None and not text.startswith(('package://', 'file://'))


def without_file_scheme(text: str) -> str:
    """Return a path as it is, or the one that a ``file:`` URL of this machine says."""
    path = _FILE.sub('', text, count=1)
    return text if path == text else unquote(path)


def masked(text: str) -> str:
    """Return a text without the users, passwords and queries of URLs in it."""
    if '://' not in text:
        return text
    return _QUERY.sub(r'\1...', _USER.sub(r'\1', text))


def with_urls(text: str) -> str:
    """Return a text in which copies in a spool are called by their URLs, without secrets."""
    if SPOOLED in text:
        text = _SPOOLED.sub(lambda match: _folder_url(match['spooled']) or match[0], text)
    return masked(text)


def url_of(path: str | Path) -> str:
    """Return the URL that a setting is, also where it has become a path; '' for no URL."""
    text = str(path)
    if isinstance(path, Path) and not path.is_absolute():
        text = _NORMALISED.sub(r'\1://', text)
    return text if is_url(text) else ''


def plain_url(url: str) -> str:
    """Return a URL without its user, password and query."""
    url = _USER.sub(r'\1', url)
    return url.partition('?')[0] if _QUERY.match(url) else url


def name_of(path: str | Path) -> str:
    """Return what a file or folder is called: its path, or its URL."""
    found = in_spool(path)
    if found is None:
        return masked(url_of(path)) or str(path)
    spooled, inner = found
    return '/'.join((_folder_url(str(spooled)), *inner.parts[1:]))


def in_spool(path: str | Path) -> tuple[Path, Path] | None:
    """Return the ``spooled-<digest>`` that a path lies in, and the path within; None of others."""
    text = str(path)
    if SPOOLED in text:
        absolute = Path(os.path.abspath(text))
        for folder in absolute.parents:
            if folder.name.startswith(SPOOLED) and _folder_url(str(folder)):
                return folder, absolute.relative_to(folder)
    return None


def place_of(path: str | Path) -> str:
    """Return what tells whether two paths lead to the same: without links, or a URL."""
    name = name_of(path)
    return name if is_url(name) else os.path.realpath(path)


def _folder_url(spooled: str) -> str:
    try:
        return _read_url(spooled)
    except OSError:
        return ''


@lru_cache(maxsize=256)
def _read_url(spooled: str) -> str:
    return Path(spooled, OBJECTS, FOLDER_URL).read_text(encoding='utf-8')
