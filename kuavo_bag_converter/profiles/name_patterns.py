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

"""Names that a profile gives by a pattern, as ``taxel_{000:512}``."""

from __future__ import annotations

from itertools import product
import math
import re

from kuavo_bag_converter.profiles.document import YamlNode

MAX_ELEMENTS = 100_000
"""Of a part."""
_BRACES = re.compile(r'\{([^{}]*)\}')
_RANGE = re.compile(r'([0-9]+):([0-9]+)')


def names_by_pattern(node: YamlNode) -> list[str]:
    """
    Return the names that a pattern stands for, one for each way to fill its braces.

    What is in the last braces changes fastest. Numbers have at least as many digits as the first
    of their range is written with.

    :raises UsageError: It is no pattern, or stands for too many names.
    """
    pattern = node.text('a list of names, or a pattern such as taxel_{000:512}')
    texts = _BRACES.split(pattern)
    # Every second text is what was in braces.
    if len(texts) == 1 or any(brace in text for text in texts[::2] for brace in '{}'):
        raise node.expected('a list of names, or a pattern such as taxel_{000:512}')
    choices = [_choices(node, text) for text in texts[1::2]]
    if math.prod(map(len, choices)) > MAX_ELEMENTS:
        raise node.error(f'expected at most {MAX_ELEMENTS} names')
    return [
        ''.join(text for pair in zip(texts[::2], (*chosen, ''), strict=True) for text in pair)
        for chosen in product(*choices)
    ]


def _choices(node: YamlNode, text: str) -> list[str]:
    """Return what braces with a text in them stand for."""
    match = _RANGE.fullmatch(text)
    if match is None:
        choices = text.split(',')
        if len(choices) < 2 or not all(choices):
            raise node.error(
                f'expected in braces a range such as 0:6 (6 not included) or texts such as '
                f'left,right, found {text!r}'
            )
        return choices
    start, stop = int(match[1]), int(match[2])
    if start >= stop or stop - start > MAX_ELEMENTS:
        raise node.error(
            f'expected in braces a range of at most {MAX_ELEMENTS} numbers, start below stop, '
            f'found {text!r}'
        )
    return [f'{number:0{len(match[1])}d}' for number in range(start, stop)]
