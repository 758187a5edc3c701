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

"""The job of a process: make a bag."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kuavo_bag_converter.sample.options import SampleOptions
from kuavo_bag_converter.sample.write import write_sample


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return the writing of a sample with ``specification['options']`` to ``['path']``."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in specification['options'].items()
    }
    options = SampleOptions(**given)

    def work() -> dict[str, Any]:
        truth = write_sample(Path(specification['path']), options)
        return {'messages': sum(len(topic.receive) for topic in truth.topics.values())}

    return work
