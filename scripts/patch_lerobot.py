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

"""Make the LeRobot installed beside this Python start without CUDA and on 3.10 and 3.11."""

from pathlib import Path
import re
import sys
import sysconfig

SITE = Path(sysconfig.get_path('purelib'))

TORCHVISION = """\
import torch as _torch
for _operator in ("nms", "qnms"):
    try:
        _torch.library.define(
            "torchvision::" + _operator,
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )
    except RuntimeError:
        pass
"""
"""torchvision's own operators are linked with CUDA and do not load; reading needs none of them."""

GENERIC = '__import__("typing").Generic'
VARIABLE = '__import__("typing").TypeVar("T")'
SYNTAX = {
    'processor/pipeline.py': [
        (
            r'^class DataProcessorPipeline\[TInput, TOutput\]\(HubMixin\):',
            f'class DataProcessorPipeline(HubMixin, {GENERIC}[TInput, TOutput]):',
        )
    ],
    'datasets/streaming_dataset.py': [
        (
            r'^class Backtrackable\[T\]:',
            f'T = {VARIABLE}\nclass Backtrackable({GENERIC}[T]):',
        )
    ],
    'utils/io_utils.py': [
        (
            r'^def deserialize_json_into_object\[T: JsonLike\]\(',
            f'T = {VARIABLE}\ndef deserialize_json_into_object(',
        )
    ],
    'datasets/aggregate.py': [(r'^type ([A-Za-z]+) = ', r'\1 = ')],
    'motors/motors_bus.py': [(r'^type ([A-Za-z]+) = ', r'\1 = ')],
}
"""Type parameters (PEP 695), which Python 3.12 is the first to read, as before them."""


def main() -> None:
    """Change the files in place; those that are changed already stay as they are."""
    path = SITE / 'torchvision/_meta_registrations.py'
    text = path.read_text(encoding='utf-8')
    if not text.startswith(TORCHVISION):
        path.write_text(TORCHVISION + text, encoding='utf-8')
    if sys.version_info >= (3, 12):
        return
    for name, changes in SYNTAX.items():
        path = SITE / 'lerobot' / name
        text = path.read_text(encoding='utf-8')
        for old, new in changes:
            text = re.sub(old, new, text, flags=re.MULTILINE)
        path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
