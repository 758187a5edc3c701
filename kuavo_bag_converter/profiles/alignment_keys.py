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

"""What a profile says under ``align``."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any, get_args, Literal

from kuavo_bag_converter.profiles.document import LONGEST_S, YamlNode
from kuavo_bag_converter.profiles.model import Align, OnGap, Reduce, Strategy, Timeline

Use = Literal['vector', 'camera', 'all', 'flag']
"""What an alignment is for; ``all`` is the profile's default."""
AlignKeys = Mapping[str, YamlNode]
"""What is written of an alignment, with what is inherited."""

_MOST_SHIFT = 1000
_NUMBERS_ONLY = {'mark': '999', 'zeros': 'zeros'}
"""Of ``on_gap``, what writes numbers."""
_KEYS = tuple(field.name for field in dataclasses.fields(Align))


def fits_every_feature(align: Align) -> bool:
    """Tell whether an alignment may be the default of a profile, for vectors and cameras."""
    return (
        align.strategy in ('nearest', 'hold')
        and align.on_gap not in _NUMBERS_ONLY
        and not align.zeros_before_first
        and align.reduce is None
        and not align.shift
    )


def default_align(node: YamlNode | None) -> AlignKeys:
    """
    Return what is written of the alignment of all features, if anything is.

    :raises UsageError: It is not allowed, or not for vectors and cameras alike.
    """
    if node is None:
        return {}
    given = node.mapping(*_KEYS)
    read_align(given, 'all', node)
    return given


def merged(node: YamlNode | None, inherited: AlignKeys) -> AlignKeys:
    """
    Return the keys of an alignment of its own, if there is one, on top of inherited ones.

    :raises UsageError: It is no mapping, or has an unknown key.
    """
    own = node.mapping(*_KEYS) if node is not None else {}
    return {**inherited, **own}


def read_align(given: AlignKeys, use: Use, node: YamlNode) -> Align:
    """
    Read an alignment; ``node`` is where it is used, for errors about the whole.

    :raises UsageError: A value is not allowed for ``use``, or does not fit the others.
    """
    values: dict[str, Any] = {}
    if 'strategy' in given:
        values['strategy'] = _strategy(given['strategy'], use)
    if 'timeline' in given:
        values['timeline'] = given['timeline'].choice(*get_args(Timeline))
    for key in ('tolerance_ms', 'gap_ms'):
        if key in given and given[key].value is not None:
            what = 'a number greater than 0, or null for no limit'
            values[key] = given[key].positive(what)
    values['on_gap'] = 'split' if 'tolerance_ms' in values or 'gap_ms' in values else 'keep'
    if use == 'flag':
        values['on_gap'] = 'keep'
    if 'on_gap' in given:
        values['on_gap'] = _on_gap(given['on_gap'], use)
    if 'zeros_before_first' in given:
        values['zeros_before_first'] = given['zeros_before_first'].flag()
    if 'offset_ms' in given:
        values['offset_ms'] = given['offset_ms'].number('milliseconds', LONGEST_S * 1e3)
    if 'shift' in given:
        values['shift'] = given['shift'].integer(0, _MOST_SHIFT)
    if 'reduce' in given and given['reduce'].value is not None:
        values['reduce'] = given['reduce'].choice(*get_args(Reduce))
    align = Align(**values)
    for key in ('reduce', 'shift', 'zeros_before_first'):
        if getattr(align, key) and use != 'vector':
            raise given[key].error('only for the parts of vectors')
    for key in ('reduce', 'zeros_before_first'):
        if getattr(align, key) and align.strategy != 'hold':
            raise given[key].error(
                f'needs strategy hold, found {align.strategy}; set strategy: hold'
            )
    if use == 'flag' and align.tolerance_ms is None and align.gap_ms is None:
        raise node.error('a gap_flag needs to know what a gap is; set align.gap_ms')
    return align


def _strategy(node: YamlNode, use: Use) -> Strategy:
    strategy: Strategy = node.choice(*get_args(Strategy))
    if strategy in ('linear', 'slerp') and use in ('camera', 'all'):
        place = 'for cameras' if use == 'camera' else 'as the default of all, cameras included'
        raise node.error(
            f'{strategy} is not possible {place}; set nearest or hold, and {strategy} at the '
            'parts that want it'
        )
    return strategy


def _on_gap(node: YamlNode, use: Use) -> OnGap:
    on_gap: OnGap = node.choice(*get_args(OnGap))
    if use == 'flag' and on_gap != 'keep':
        raise node.error(f'a gap_flag keeps the frames that it flags, found {on_gap}; set keep')
    if on_gap in _NUMBERS_ONLY and use in ('camera', 'all'):
        raise node.error(
            f'{on_gap} writes {_NUMBERS_ONLY[on_gap]} in place of numbers, which pictures do not '
            'have; set it at the parts that want it'
        )
    return on_gap
