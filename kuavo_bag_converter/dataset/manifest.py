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

"""The manifest of a shard: ``shard.json``."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.dataset.features import DepthCoding, Feature
from kuavo_bag_converter.support.errors import DatasetError

FORMAT = 2
MANIFEST = 'shard.json'


def read_manifest(path: Path) -> dict[str, Any]:
    """
    Read the manifest of the shard in a folder.

    :raises DatasetError: It is missing, not readable, or of another version.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise DatasetError(f'{file}: missing; {path} is not a finished shard') from None
    except ValueError as error:
        raise DatasetError(f'{file}: not readable ({error}); convert its bag again') from error
    found = manifest.get('format') if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise DatasetError(
            f'{file}: shard format {found}, this version reads {FORMAT}; convert its bag again'
        )
    return dict(manifest)


def feature_of(described: Mapping[str, Any]) -> Feature:
    """Return the feature that a manifest describes."""
    names, depth = described['names'], described['depth']
    return Feature(
        key=described['key'],
        dtype=described['dtype'],
        shape=tuple(described['shape']),
        names=None if names is None else tuple(names),
        depth=None if depth is None else DepthCoding(**depth),
    )
