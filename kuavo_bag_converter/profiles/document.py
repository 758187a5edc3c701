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
Strict YAML, and values that know their place in it, so that every error can name it.

Plain scalars are those of the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema)
without its octal and hexadecimal integers: ``7:14``, ``on`` and ``2025-01-01`` are texts, ``1e3``
is a number. Repeated keys, keys that are not texts, aliases and explicit tags are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
import re
import sys
from typing import Any
import unicodedata

from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.texts import did_you_mean
import yaml

FLOAT_TAG = 'tag:yaml.org,2002:float'
FLOAT_PATTERN = re.compile(
    r'^(?:[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?'
    r'|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$'
)
FLOAT_FIRST = list('-+.0123456789')

_BREAKING = ('Cc', 'Zl', 'Zp')
"""Categories of control characters and line separators."""
LONGEST_S = 5e9
"""Of times that are added to stamps, which are held in ns by 64 bits; 158 years."""
_MOST = sys.float_info.max
_SHOWN = 60
"""Characters of a value that an error shows."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, made stricter."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # not in the stubs
        problem = ''
        if isinstance(event, yaml.AliasEvent):
            problem = 'aliases are not supported; write the value out'
        elif getattr(event, 'tag', None) is not None:
            problem = f'tags are not supported; remove {event.tag!r}'
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != 'tag:yaml.org,2002:str':
                text = key.value if isinstance(key, yaml.ScalarNode) else 'a collection'
                problem = f'expected a text as key, found {text}; write it in quotes'
            elif key.value in seen:
                problem = f'the key {key.value!r} is given twice'
            else:
                seen.add(key.value)
                continue
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:null', re.compile(r'^(?:~|null|Null|NULL|)$'), ['~', 'n', 'N', '']
)
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:bool',
    re.compile(r'^(?:true|True|TRUE|false|False|FALSE)$'),
    list('tTfF'),
)
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:int', re.compile(r'^[-+]?(?:0|[1-9][0-9]*)$'), list('-+0123456789')
)
_Loader.add_implicit_resolver(FLOAT_TAG, FLOAT_PATTERN, FLOAT_FIRST)


class YamlNode:
    """
    A value of a document and its key path.

    The methods that read a value raise :class:`UsageError` where it is not what they expect; the
    error names the file, the key path, what was found and what is allowed.
    """

    def __init__(self, file: str, path: str, value: object) -> None:
        """
        Hold ``value``, found at ``path`` ('' for the whole document) in ``file``.

        What is in a mapping or list may be a node itself, of another file or place.
        """
        self.file = file
        self.path = path
        self.value = value

    def error(self, problem: str) -> UsageError:
        """Return an error about this value."""
        place = f'{self.path}: ' if self.path else ''
        return UsageError(f'{self.file}: {place}{problem}')

    def expected(self, what: str) -> UsageError:
        """Return the error that this value is not ``what``."""
        return self.error(f'expected {what}, found {self._found()}')

    def mapping(self, *known: str, required: tuple[str, ...] = ()) -> dict[str, YamlNode]:
        """Return the values of a mapping by key; only ``known`` keys may be there."""
        members = self.members(f'a mapping with the keys {", ".join(known)}')
        for key in members:
            if key not in known:
                holder = YamlNode(members[key].file, self.path, None)
                raise holder.error(
                    f'unknown key {key!r} (known are {", ".join(known)}){did_you_mean(key, known)}'
                )
        for key in required:
            if key not in members:
                raise self.error(f'the key {key!r} is missing')
        return members

    def members(self, what: str) -> dict[str, YamlNode]:
        """Return the values of a mapping with any keys; ``what`` it is, for the error."""
        if not isinstance(self.value, dict):
            raise self.expected(what)
        prefix = f'{self.path}.' if self.path else ''
        return {key: self._node(f'{prefix}{key}', value) for key, value in self.value.items()}

    def items(self, what: str) -> list[YamlNode]:
        """Return the elements of a list that is not empty."""
        if not isinstance(self.value, list) or not self.value:
            raise self.expected(f'a list of {what}')
        return [
            self._node(f'{self.path}[{index}]', value) for index, value in enumerate(self.value)
        ]

    def _node(self, path: str, value: object) -> YamlNode:
        return value if isinstance(value, YamlNode) else YamlNode(self.file, path, value)

    def text(self, what: str = 'a text') -> str:
        """Return a text of one line that is not blank."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.expected(what)
        if any(unicodedata.category(character) in _BREAKING for character in self.value):
            raise self.expected(f'{what} of one line, without control characters')
        return self.value

    def word(self, what: str) -> str:
        """Return a text without white space."""
        text = self.text(what)
        if any(character.isspace() for character in text):
            raise self.expected(f'{what} without white space')
        return text

    def choice(self, *allowed: str) -> Any:
        """Return one of ``allowed``."""
        if self.value not in allowed:
            near = did_you_mean(self.value, allowed) if isinstance(self.value, str) else ''
            raise self.error(f'expected one of {", ".join(allowed)}, found {self._found()}{near}')
        return self.value

    def flag(self) -> bool:
        """Return a boolean."""
        if not isinstance(self.value, bool):
            raise self.expected('true or false')
        return self.value

    def integer(self, minimum: int, maximum: int | None = None) -> int:
        """Return an integer within the limits."""
        value = self.value
        what = f'an integer of at least {minimum}'
        if maximum is not None:
            what = f'an integer from {minimum} to {maximum}'
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.expected(what)
        if maximum is not None and value > maximum:
            raise self.expected(what)
        return value

    def number(self, what: str = 'a number', most: float = _MOST) -> float:
        """Return a finite number whose size is at most ``most``."""
        value = self.value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.expected(what)
        if not abs(value) <= most:
            raise self.expected(what if most == _MOST else f'{what}, at most {most:g}')
        return value

    def positive(self, what: str = 'a number greater than 0', most: float = _MOST) -> float:
        """Return a finite number greater than 0 and at most ``most``."""
        value = self.number(what, most)
        if value <= 0:
            raise self.expected(what)
        return value

    def _found(self) -> str:
        value = self.value
        if value is None:
            return 'nothing'
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dict):
            return 'a mapping'
        shown = repr(value)
        return shown if len(shown) <= _SHOWN else f'{shown[:_SHOWN]}...'


def read_keys(
    keys: Mapping[str, YamlNode], **readers: Callable[[YamlNode], Any]
) -> dict[str, Any]:
    """
    Read the keys that are there, so that the model's defaults hold for the rest.

    :param keys: Of a mapping.
    :param readers: What reads the value of a key.
    :raises UsageError: A reader does not take its value.
    """
    return {key: read(keys[key]) for key, read in readers.items() if key in keys}


def read_document(path: str | Path) -> YamlNode:
    """
    Read a YAML file.

    :raises UsageError: It cannot be read or is not valid; the line is named.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise UsageError(f'{file}: cannot read the file: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UsageError(f'{file}: not a UTF-8 text: byte {error.start} is not valid') from error
    return parse_document(text, file)


def parse_document(text: str, file: str) -> YamlNode:
    """
    Read YAML that ``file`` holds, by which errors name it.

    :raises UsageError: It is not valid; the line is named.
    """
    try:
        return YamlNode(file, '', _Loader(text).get_single_data())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f'line {mark.line + 1}, column {mark.column + 1}: ' if mark else ''
        problem = ' '.join(str(error.problem or error.context).split())
        raise UsageError(f'{file}: {place}not valid YAML: {problem}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f'{file}: not valid YAML: {" ".join(str(error).split())}') from error
