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

"""Profiles from YAML; ``docs/profiles.md`` is the reference of every key."""

from __future__ import annotations

from dataclasses import replace
import os
from pathlib import Path
from typing import get_args

from kuavo_bag_converter.profiles.alignment_keys import default_align
from kuavo_bag_converter.profiles.composition import composed
from kuavo_bag_converter.profiles.document import (
    parse_document,
    read_document,
    read_keys,
    YamlNode,
)
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.episode_keys import read_episodes
from kuavo_bag_converter.profiles.feature_keys import is_key, read_features, UNSEEN
from kuavo_bag_converter.profiles.model import (
    Clock,
    Episodes,
    IN_DATASET,
    Language,
    LanguageRole,
    LanguageStyle,
    Profile,
    Source,
    Timeline,
)
from kuavo_bag_converter.profiles.source_keys import read_sources
from kuavo_bag_converter.support.errors import UsageError
import yaml


def read_profile(path: str | Path) -> Profile:
    """
    Read and check a profile, with what it extends.

    :raises UsageError: The file cannot be read, is not valid YAML, or a key or value is not
        allowed; one line names the file, the key path, what was found and what is allowed.
    """
    return _profile(composed(read_document(path)), path)


def checked(profile: Profile) -> Profile:
    """
    Return a profile that was made in Python as it is read back from what a dataset keeps.

    :raises UsageError: A value is not allowed, as in a file.
    """
    name = f'profile {profile.name}'
    try:
        text = profile_as_yaml(profile)
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise UsageError(f'{name}: cannot be written as YAML: {error}') from error
    return profile_from_yaml(text, name)


def profile_from_yaml(text: str, source: str) -> Profile:
    """
    Read a profile that :func:`~.dump.profile_as_yaml` has written.

    :param text: The YAML.
    :param source: Where it is from, for errors.
    :raises UsageError: It is not valid.
    """
    return _profile(parse_document(text, source), '')


def _profile(document: YamlNode, path: str | Path) -> Profile:
    keys = document.mapping(
        'name', 'robot_type', 'fps', 'task', 'clock', 'align', 'features', 'episodes', 'language',
        'extends', 'options',
        required=('robot_type', 'fps', 'task', 'clock', 'features'),
    )  # fmt: skip
    if 'options' in keys:
        raise keys['options'].error('are those of a robot; they need extends with its name')
    fps = keys['fps'].integer(1, 1000)
    task, task_sources = _task(keys['task'])
    return Profile(
        name=keys['name'].text() if 'name' in keys else Path(path).stem,
        robot_type=keys['robot_type'].text(),
        fps=fps,
        clock=_clock(keys['clock'], fps),
        features=read_features(keys['features'], default_align(keys.get('align'))),
        task=task,
        task_sources=task_sources,
        episodes=_placed(read_episodes(keys['episodes']), path)
        if 'episodes' in keys
        else Episodes(),
        language=_language(keys['language'], keys['features']) if 'language' in keys else (),
    )


def _placed(episodes: Episodes, path: str | Path) -> Episodes:
    """Find annotations whose place is told relative to the dataset that keeps the profile."""
    if not episodes.marks_file.startswith(IN_DATASET):
        return episodes
    marks = Path(path).resolve().parents[1] / episodes.marks_file.removeprefix(IN_DATASET)
    return replace(episodes, marks_file=os.path.normpath(marks))


def _language(node: YamlNode, features: YamlNode) -> tuple[Language, ...]:
    """Read the topics of texts, whose columns are told apart by style and role, or by key."""
    found: dict[tuple[str, ...], Language] = {}
    place: tuple[str, ...]
    for item in node.items('topics with texts, as {from: {topic, field}, style}'):
        keys = item.mapping('from', 'style', 'role', 'key', required=('from',))
        if ('style' in keys) == ('key' in keys) or ('role' in keys and 'key' in keys):
            raise item.error(
                'expected a style, for the columns of language (LeRobot 0.6), or a key, for a '
                'column of texts of its own'
            )
        sources = read_sources(keys['from'], 'one')
        if 'key' in keys:
            key = keys['key'].word('a key')
            if not key.startswith(UNSEEN) or not is_key(key):
                raise keys['key'].expected(f'{UNSEEN}<name>, which policies do not see')
            if key in features.members('features'):
                raise keys['key'].error(f'{key} is a feature already; choose another')
            place, language = (key,), Language(sources, key=key)
        else:
            style = keys['style'].choice(*get_args(LanguageStyle))
            role: LanguageRole = 'user' if style == 'interjection' else 'assistant'
            if 'role' in keys:
                role = keys['role'].choice(*get_args(LanguageRole))
            place, language = (style, role), Language(sources, style, role)
        if place in found:
            raise item.error(f'{" with role ".join(place)} is there already; one topic says it')
        found[place] = language
    return tuple(found.values())


def _task(node: YamlNode) -> tuple[str, tuple[Source, ...]]:
    if not isinstance(node.value, dict):
        return node.text('a text, or a mapping with the keys from, default'), ()
    keys = node.mapping('from', 'default', required=('from', 'default'))
    return keys['default'].text(), read_sources(keys['from'], 'one')


def _clock(node: YamlNode, fps: int) -> Clock:
    keys = node.mapping(
        'from', 'most_messages', 'fps', 'decimation', 'drop', 'end_trim', 'end_topics',
        'timeline', 'absurd_stamp_s', 'on_step_back', 'on_pause', required=('from', 'fps'),
    )  # fmt: skip
    clock = Clock(
        sources=read_sources(keys['from'], 'none'),
        source_fps=keys['fps'].positive(),
        **read_keys(
            keys,
            most_messages=YamlNode.flag,
            decimation=lambda node: node.choice('auto', 'jump', 'time'),
            drop=lambda node: node.integer(0),
            end_trim=lambda node: node.choice('min_end', 'max_end', 'none'),
            end_topics=_topics,
            timeline=lambda node: node.choice(*get_args(Timeline)),
            absurd_stamp_s=_seconds,
            on_step_back=lambda node: node.choice('split', 'fail'),
            on_pause=lambda node: node.choice('split', 'keep'),
        ),
    )
    if clock.decimation == 'jump' and clock.source_fps < fps:
        raise keys['decimation'].error(
            f'jump needs a clock topic at least as fast as the frames, found {clock.source_fps:g} '
            f'Hz for {fps} Hz; set time'
        )
    return clock


def _seconds(node: YamlNode) -> float:
    value = node.number('seconds')
    if value < 0:
        raise node.expected('seconds, or 0 for no limit')
    return value


def _topics(node: YamlNode) -> tuple[str, ...]:
    if node.value == []:
        return ()
    return tuple(item.word('a topic') for item in node.items('topics'))
