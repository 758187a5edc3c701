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

"""Covering sets: few combinations in which every two values of two parameters meet."""

from __future__ import annotations

from itertools import combinations


def covering(parameters, allowed=lambda _: True):
    """
    Return rows such that each pair of values of two parameters is in one of them.

    Greedy and without chance, so that a row that fails can be found again. The rows are not the
    fewest possible.

    :param parameters: Values by name.
    :param allowed: Tells whether a row, or a part of one, makes sense.
    """
    pairs = {
        frozenset([(one, a), (other, b)]): None
        for one, other in combinations(parameters, 2)
        for a in parameters[one]
        for b in parameters[other]
        if allowed({one: a, other: b})
    }
    rows = []
    while pairs:
        row = dict(next(iter(pairs)))
        for name in parameters:
            if name not in row:
                row[name] = _best(row, name, parameters[name], pairs, allowed)
        for pair in _pairs_of(row):
            pairs.pop(pair, None)
        rows.append({name: row[name] for name in parameters})
    return rows


def _best(row, name, values, pairs, allowed):
    """Return the value that makes most pairs with the row that are still missing."""
    fitting = [value for value in values if allowed({**row, name: value})]
    return max(
        fitting,
        key=lambda value: sum(frozenset([(name, value), item]) in pairs for item in row.items()),
    )


def _pairs_of(row):
    return map(frozenset, combinations(row.items(), 2))
