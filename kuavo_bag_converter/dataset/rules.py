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

"""What features must be for LeRobot to load them and train on them."""

from __future__ import annotations

from collections.abc import Sequence

from kuavo_bag_converter.dataset.features import Feature, LANGUAGE_FEATURES
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES
from kuavo_bag_converter.support.errors import UsageError
import numpy as np


def check_features(features: Sequence[Feature]) -> None:
    """
    Refuse features that make no dataset.

    :raises UsageError: Names the feature and what is wrong with it.
    """
    seen: set[str] = set()
    for feature in features:
        if feature.key in seen:
            raise UsageError(f'{feature.key}: is there twice')
        seen.add(feature.key)
        _check_key(feature.key)
        if feature.is_language and (feature.shape, feature.names) == ((1,), None):
            if feature.dtype == 'language' and feature not in LANGUAGE_FEATURES:
                names = ' and '.join(known.key for known in LANGUAGE_FEATURES)
                raise UsageError(f'{feature.key}: the columns of language are {names}')
        elif feature.is_picture:
            _check_camera(feature)
        else:
            _check_vector(feature)


def _check_key(key: str) -> None:
    if key in ('', '.', '..') or '/' in key or '\0' in key:
        raise UsageError(f'feature {key!r}: a key is a word without slashes')
    if key in {feature.key for feature in DEFAULT_FEATURES}:
        raise UsageError(f'{key}: is a column of every dataset; choose another key')


def _check_camera(feature: Feature) -> None:
    channels = 1 if feature.is_depth else 3
    if len(feature.shape) != 3 or feature.shape[2] != channels:
        raise UsageError(
            f'{feature.key}: shape {list(feature.shape)}, expected [height, width, {channels}]'
        )


def _check_vector(feature: Feature) -> None:
    try:
        numeric = np.dtype(feature.dtype).kind in 'biuf'
    except TypeError:
        numeric = False
    if not numeric or len(feature.shape) not in (1, 2) or min(feature.shape) < 1:
        raise UsageError(
            f'{feature.key}: {feature.dtype}{list(feature.shape)}, expected a numeric dtype and '
            'one dimension, or two: samples and elements'
        )
    if feature.names is not None and len(feature.names) != feature.shape[-1]:
        raise UsageError(
            f'{feature.key}: {len(feature.names)} names for {feature.shape[-1]} dimensions'
        )
