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
Columns of texts: those of language of LeRobot 0.6 (its ``datasets/language.py``), and plain ones.

``language_persistent`` has in each row all texts of the episode that last until the next one, with
the time from which on each holds; ``language_events`` has those that are said at the row's frame.
A column of dtype ``string``, which all versions read, has the last text by each frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kuavo_bag_converter.alignment.plan import LanguageRow
from kuavo_bag_converter.dataset.features import Feature, LANGUAGE_FEATURES
from kuavo_bag_converter.profiles.model import Language
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

_PERSISTENT, _EVENTS = (feature.key for feature in LANGUAGE_FEATURES)
_STYLE_OF_EVENTS = 'interjection'
REPEATING_TEXTS = [
    f'{key}.list.element.{name}'
    for key in (_PERSISTENT, _EVENTS)
    for name in ('role', 'content', 'style')
]
"""The columns of Parquet with texts, which come in many rows."""


def language_type(key: str) -> pa.DataType:
    """Return the type of a column of language."""
    fields = [('role', pa.string()), ('content', pa.string()), ('style', pa.string())]
    if key == _PERSISTENT:
        fields.append(('timestamp', pa.float32()))
    fields += [('camera', pa.string()), ('tool_calls', pa.list_(pa.string()))]
    return pa.list_(pa.field('element', pa.struct(fields)))


def described_language(key: str) -> list[dict[str, Any]]:
    """Return how ``datasets`` describes a column of language in a file's metadata."""
    text = {'dtype': 'string', '_type': 'Value'}
    described: dict[str, Any] = {'role': text, 'content': text, 'style': text}
    if key == _PERSISTENT:
        described['timestamp'] = {'dtype': 'float32', '_type': 'Value'}
    return [described | {'camera': text, 'tool_calls': [text]}]


def language_columns(
    features: Sequence[Feature], rows: Iterable[LanguageRow], timestamps: NDArray[np.float32]
) -> dict[str, pa.Array]:
    """
    Return the columns of texts of an episode.

    :param features: The columns.
    :param rows: Its texts, in order.
    :param timestamps: Of its frames, as the column ``timestamp`` has them, s.
    """
    lasting: list[dict[str, Any]] = []
    events: list[list[dict[str, Any]]] = [[] for _ in timestamps]
    texts: dict[str, list[str]] = {
        feature.key: [''] * len(timestamps) for feature in features if feature.dtype == 'string'
    }
    for row in rows:
        written = {'role': row.role, 'content': row.text, 'style': row.style}
        if row.key:
            left = len(timestamps) - row.frame
            texts[row.key][slice(row.frame, None)] = [row.text] * left
        elif row.style == _STYLE_OF_EVENTS:
            events[row.frame].append(written)
        else:
            lasting.append(written | {'timestamp': float(timestamps[row.frame])})
    columns = {key: pa.array(cells, pa.string()) for key, cells in texts.items()}
    if len(texts) == len(features):
        return columns
    kind = language_type(_PERSISTENT)
    every = np.tile(np.arange(len(lasting)), len(timestamps))
    ends = pa.array(np.arange(len(timestamps) + 1, dtype=np.int32) * len(lasting))
    of_episode = pa.array(lasting, kind.value_type).take(pa.array(every))
    return columns | {
        _PERSISTENT: pa.ListArray.from_arrays(ends, of_episode, type=kind),
        _EVENTS: pa.array(events, language_type(_EVENTS)),
    }


def language_features(language: Sequence[Language]) -> list[Feature]:
    """Return the columns of texts that a profile asks for."""
    columns = list(LANGUAGE_FEATURES) if any(one.style for one in language) else []
    return [*columns, *(Feature(one.key, 'string', (1,)) for one in language if one.key)]
