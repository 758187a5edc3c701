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
A profile that extends another one: what it says is put over what the other says.

Mappings are put together key by key, and everything else takes the place of what is inherited.
What becomes of it keeps its place in its own file, so that errors name that.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
from typing import Any

from kuavo_bag_converter.profiles.document import parse_document, read_document, YamlNode
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.feature_keys import names_of_part
from kuavo_bag_converter.profiles.shipped import file_of_profile
from kuavo_bag_converter.settings import known_settings, settings_from
from kuavo_bag_converter.support.errors import ConverterError, UsageError
from kuavo_bag_converter.support.plugins import calling, plugins, ROBOTS
from kuavo_bag_converter.support.texts import did_you_mean

_NULL_IS_A_VALUE = ('tolerance_ms', 'gap_ms', 'reduce', 'names_field', 'frame_id')
"""Keys whose null says something; that of others takes out what is inherited."""
_EITHER = (
    {'field', 'fields'},
    {'select', 'joints'},
    {'ranges', 'marks_file', 'while_true', 'each_message', 'events'},
)
"""Keys of which one takes the place of the others."""


def composed(document: YamlNode) -> YamlNode:
    """
    Return a profile with what it extends below it; as it is, if it extends nothing.

    :raises UsageError: There is no such profile, profiles extend each other in a circle, or a key
        that is to be taken out is not inherited.
    """
    layers: list[dict[str, YamlNode]] = []
    files = [document.file]
    while isinstance(document.value, dict) and 'extends' in document.value:
        members = document.members('')
        extends = members.pop('extends')
        layers.append(members)
        name = extends.text('the name of a profile or robot, or the path of a YAML file')
        if name in plugins(ROBOTS):
            document = _robot(name, layers, extends)
            break
        try:
            file = Path(extends.file).parent / file_of_profile(name)
        except UsageError as error:
            raise extends.error(str(error)) from None
        seen = [os.path.realpath(one) for one in files]
        files.append(str(file))
        if os.path.realpath(file) in seen:
            raise extends.error(f'profiles extend each other in a circle: {", ".join(files)}')
        if not file.is_file():
            raise extends.error(f'there is no file {file}')
        document = read_document(file)
    for members in reversed(layers):
        base = document.members('a profile')
        base.pop('name', None)
        document = _merged(YamlNode(document.file, '', base), YamlNode(files[0], '', members))
    return document


def _robot(name: str, layers: Sequence[dict[str, YamlNode]], extends: YamlNode) -> YamlNode:
    """
    Return the profile that a robot builds, by the options of all layers.

    :raises UsageError: An option is not the robot's, or not allowed, or only a bag settles it.
    """
    plugin = plugins(ROBOTS)[name]
    merged: YamlNode | None = None
    for members in reversed(layers):
        given = members.pop('options', None)
        if given is None:
            continue
        for key, node in given.members("a mapping of the robot's options").items():
            known = [info.name for info in known_settings().values() if info.robot == plugin]
            if not any(option == key or option.startswith(f'{key}.') for option in known):
                raise node.error(f'is no option of {name}{did_you_mean(key, known)}')
        merged = given if merged is None else _merged(merged, given)
        settings_from(_plain(given), f'{given.file}: options')
    source = extends if merged is None else merged
    options = settings_from(_plain(merged) if merged else {}, f'{source.file}: options')
    robot = plugin.value
    try:
        with calling(plugin, 'building the profile'):
            mine = options.options_of(robot.options)
            is_open = str(robot.undecided(mine))
            text = '' if is_open else profile_as_yaml(robot.build(mine, ()))
    except ConverterError as error:
        raise UsageError(f'{source.file}: options: {error}') from error
    if is_open:
        raise extends.error(
            f'{is_open}: auto is settled by a bag, of which a profile knows nothing; say under '
            'options what it is'
        )
    return parse_document(text, f'profile {name}')


def _plain(node: YamlNode) -> Any:
    """Return a value of which nothing is a node."""
    if isinstance(node.value, dict):
        return {key: _plain(item) for key, item in node.members('').items()}
    return node.value


def _merged(base: YamlNode, over: YamlNode) -> YamlNode:
    """Return one value over an inherited one."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    result = base.members('')
    given = over.members('')
    for group in _EITHER:
        for key in (group - given.keys()) if group & given.keys() else ():
            result.pop(key, None)
    for key, node in given.items():
        inherited = result.get(key)
        if node.value is None and key not in _NULL_IS_A_VALUE:
            if inherited is None:
                raise node.error(
                    'null takes out what is inherited, which has no such key'
                    f'{did_you_mean(key, result)}'
                )
            del result[key]
        elif inherited is None:
            result[key] = node
        elif key == 'parts' and isinstance(node.value, dict):
            result[key] = _merged_parts(inherited, node)
        else:
            result[key] = _merged(inherited, node)
    return YamlNode(over.file, over.path, result)


def _merged_parts(base: YamlNode, over: YamlNode) -> YamlNode:
    """Return the parts of a vector; each key is the name of an element of the one that changes."""
    parts = base.items('parts')
    for name, node in over.members('').items():
        names = [names_of_part(part) for part in parts]
        place = next((place for place, mine in enumerate(names) if name in mine), None)
        if place is None:
            keys = node.members('a part') if node.value is not None else {}
            if not {'from', 'last_frame'} & keys.keys():
                near = did_you_mean(name, [one for mine in names for one in mine])
                raise node.error(
                    f'no part that is inherited has an element {name!r}, and a new one needs from'
                    f'{near}'
                )
            named: dict[str, object] = {'names': [name]}
            if {'names', 'joints', 'rotation'} & keys.keys():
                named = {}
            parts.append(YamlNode(node.file, node.path, {**keys, **named}))
        elif node.value is None:
            del parts[place]
        else:
            parts[place] = _merged(parts[place], node)
    return YamlNode(over.file, over.path, parts)
