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

"""What a profile says of a camera."""

from __future__ import annotations

import re

from kuavo_bag_converter.profiles.alignment_keys import AlignKeys, merged, read_align
from kuavo_bag_converter.profiles.document import read_keys, YamlNode
from kuavo_bag_converter.profiles.model import CameraFeature, Crop
from kuavo_bag_converter.profiles.source_keys import read_sources

_KEYS = (
    'from', 'crop', 'rotate', 'fit', 'size', 'range', 'depth', 'depth_range', 'unit', 'store',
    'info', 'align',
)  # fmt: skip
_DEPTH_CODINGS = ('original', 'range8', 'metric12', 'image16', 'copy')
_FORMER_CODINGS = {'minmax8': 'original'}
_LARGEST = 16384
_MILLIMETRES = {'m': 1000.0, 'cm': 10.0, 'mm': 1.0, 'um': 0.001}
_LENGTH = re.compile(r'([0-9]*\.?[0-9]+)? *(m|cm|mm|um)')


def read_camera(key: str, node: YamlNode, inherited: AlignKeys) -> CameraFeature:
    """
    Read a camera; what it does not say of its alignment is ``inherited``.

    :raises UsageError: A key or value is not allowed.
    """
    keys = node.mapping(*_KEYS, required=('from',))
    given = merged(keys.get('align'), inherited)
    for name in ('depth_range', 'unit'):
        if name in keys and 'depth' not in keys:
            raise keys[name].error(
                f'only for depth cameras; set depth to one of {", ".join(_DEPTH_CODINGS)}'
            )
    if 'range' in keys and 'depth' in keys:
        raise keys['range'].error('not for depth cameras; set depth_range')
    asked = {name: keys[name].value for name in ('store', 'depth') if name in keys}
    if asked == {'store': 'image', 'depth': 'metric12'}:
        raise keys['store'].error(
            'metric12 is a coding of video; set depth to image16, or store: video'
        )
    if asked.get('store') == 'video' and asked.get('depth') in ('image16', 'copy'):
        raise keys['store'].error(
            f'depth: {asked["depth"]} is stored in the table; set depth to metric12, or leave '
            'store out'
        )
    return CameraFeature(
        key=key,
        sources=read_sources(keys['from'], 'none', given, 'camera'),
        value_range=_range(keys['range']) if 'range' in keys else None,
        info_topic=keys['info'].word('the name of a topic') if 'info' in keys else '',
        unit_mm=_unit(keys['unit']) if 'unit' in keys else None,
        align=read_align(given, 'camera', node),
        **read_keys(
            keys,
            crop=_crop,
            rotate=_rotation,
            fit=lambda node: node.choice('scale', 'pad', 'crop'),
            size=_size,
            depth=_depth,
            depth_range=_depth_range,
            store=lambda node: node.choice('video', 'image'),
        ),
    )


def _size(node: YamlNode) -> tuple[int, int]:
    keys = node.mapping('width', 'height', required=('width', 'height'))
    return keys['height'].integer(16, 8192), keys['width'].integer(16, 8192)


def _crop(node: YamlNode) -> Crop:
    keys = node.mapping('x', 'y', 'width', 'height', required=('width', 'height'))
    return Crop(
        keys['x'].integer(0, _LARGEST) if 'x' in keys else 0,
        keys['y'].integer(0, _LARGEST) if 'y' in keys else 0,
        keys['width'].integer(1, _LARGEST),
        keys['height'].integer(1, _LARGEST),
    )


def _rotation(node: YamlNode) -> int:
    if type(node.value) is not int or node.value not in (0, 90, 180, 270):
        raise node.expected('90, 180 or 270 (degrees, clockwise)')
    return node.value


def _range(node: YamlNode) -> tuple[float, float]:
    items = node.items('two numbers')
    if len(items) != 2:
        raise node.expected('[low, high], what becomes black and what becomes white')
    low, high = (item.number() for item in items)
    if low >= high:
        raise node.expected('[low, high] with low below high')
    return low, high


def _unit(node: YamlNode) -> float:
    what = 'a length such as m, mm, 0.1mm or 0.25mm, or a number of mm'
    match = _LENGTH.fullmatch(node.value) if isinstance(node.value, str) else None
    if match is None:
        if isinstance(node.value, str):
            raise node.expected(what)
        return node.positive(what)
    unit = float(match[1] or 1) * _MILLIMETRES[match[2]]
    if unit <= 0:
        raise node.expected(what)
    return unit


def _depth(node: YamlNode) -> str:
    if isinstance(node.value, str) and node.value in _FORMER_CODINGS:
        return _FORMER_CODINGS[node.value]
    coding: str = node.choice(*_DEPTH_CODINGS)
    return coding


def _depth_range(node: YamlNode) -> tuple[int, int]:
    what = '[min, max] in mm, both whole and min below max'
    items = node.items('two integers')
    if len(items) != 2 or not all(type(item.value) is int for item in items):
        raise node.expected(what)
    low, high = (item.integer(0, 65535) for item in items)
    if low >= high:
        raise node.expected(what)
    return low, high
