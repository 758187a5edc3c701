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

"""Labels of recordings: what was noted of them becomes columns of the list of episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from kuavo_bag_converter.bags.custom_data import custom_data_of
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.texts import counted, listed, visible


def check_labels(keys: Sequence[str]) -> None:
    """
    Check that labels can be columns.

    :raises UsageError: One is no word, or is there twice.
    """
    for key, times in Counter(keys).items():
        if not key.strip() or not key.isprintable():
            raise UsageError(f'labels: expected keys of custom_data, found {key!r}')
        if times > 1:
            raise UsageError(f'labels: {key} is there {times} times; give it once')


def labels_of(
    keys: Sequence[str], path: Path, given: Mapping[str, str]
) -> tuple[Mapping[str, str | None], tuple[str, ...]]:
    """
    Return what was noted of a recording under some keys, None for nothing.

    :param keys: Those of the setting ``labels``.
    :param path: A rosbag2 directory, or the first file of the recording.
    :param given: What a table of bags says of it, which wins.
    :return: The labels, and a line that says which keys are not there, if any is not.
    """
    noted = {**(custom_data_of(path) if {*keys} - given.keys() else {}), **given}
    labels = {key: visible(noted[key]) if key in noted else None for key in keys}
    missing = [key for key, text in labels.items() if text is None]
    if not missing:
        return labels, ()
    return labels, (
        f'{path}: {counted(len(missing), "label")} not in its custom_data: {listed(missing)}; '
        f'keys that are there: {listed(sorted(noted)) or "none"}',
    )
