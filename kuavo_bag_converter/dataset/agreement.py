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

"""What the bags of a run must agree in, because their shards are joined to one dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kuavo_bag_converter.dataset.assemble import check_fits, check_format
from kuavo_bag_converter.dataset.encoders import COPY
from kuavo_bag_converter.dataset.existing import sizes_of
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import listed

_Codings = Mapping[str, tuple[str, str, bool]]
"""Codec, pixel format and whether pictures are copied, of every camera in videos."""
_Sizes = Mapping[str, tuple[int, ...]]
"""(height, width) of the pictures of every camera feature."""


@dataclass(frozen=True)
class ShardFormat:
    """What of a shard must be as in every other shard of a dataset."""

    features: tuple[Feature, ...]
    video: Mapping[str, VideoOptions]
    """Encoder settings by camera feature."""
    fps: float
    robot_type: str
    topics: Mapping[str, str] = field(default_factory=dict)
    """The topic of each camera, for errors."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names that the bag gives elements that are read by their places, by part."""

    @property
    def sizes(self) -> _Sizes:
        """Return the sizes of the pictures."""
        return {feature.key: feature.shape[:2] for feature in self.features if feature.is_picture}

    @property
    def codings(self) -> _Codings:
        """Return how the pictures of videos are coded."""
        return {key: (v.vcodec, v.pix_fmt, v.copied) for key, v in self.video.items()}


class Agreement:
    """
    The form that all shards of a run must have.

    All bags of a run have its profile and settings; what they may differ in is the size of their
    pictures, where the profile gives a camera none, and their coding, where they are copied. Most
    bags settle it, or the dataset that they are added to.
    """

    def __init__(
        self, version: str, onto: Path | None, names: Iterable[Mapping[str, Sequence[str]]] = ()
    ) -> None:
        """
        Agree on a dataset of LeRobot's format ``version``, added to the one at ``onto``.

        ``names`` are those of the elements in bags that it was made from, by part.
        """
        self._version = version
        self._onto = onto
        self._sizes: _Sizes = {} if onto is None else sizes_of(onto)
        self._codings: _Codings = {}
        self._names: dict[str, tuple[str, ...]] = {}
        for known in names:
            self._names.update({part: tuple(texts) for part, texts in known.items()})
        self._first = ''
        """The first bag with these sizes."""

    @property
    def is_settled(self) -> bool:
        """Whether a bag has settled it, or the dataset that is added to."""
        return self._onto is not None or bool(self._first)

    def settle(self, formats: Mapping[str, ShardFormat]) -> None:
        """Take the form that most bags have, by name; of as many, the one that comes first."""
        self._settle_names(formats)
        if self.is_settled or not formats:
            return
        counts = Counter(map(_form_of, formats.values()))
        ((form, _),) = counts.most_common(1)
        self._first = next(name for name, one in formats.items() if _form_of(one) == form)
        self._sizes = formats[self._first].sizes
        self._codings = formats[self._first].codings

    def check(self, name: str, shard_format: ShardFormat) -> None:
        """
        Refuse a bag whose shard would not fit the others; the first one settles their form.

        :raises BagError: The pictures of a camera have another size.
        :raises DatasetError: Something differs from the dataset that the run adds to.
        :raises UsageError: The format cannot hold the features.
        """
        check_format(shard_format.features, self._version)
        self.check_agreement(name, shard_format)

    def check_agreement(self, name: str, shard_format: ShardFormat) -> None:
        """
        Do the same, but for what the format of the dataset cannot hold.

        :raises BagError: The pictures of a camera have another size.
        :raises DatasetError: Something differs from the dataset that the run adds to.
        """
        self.settle({name: shard_format})
        for part, names in shard_format.names.items():
            known = self._names[part]
            if tuple(names) != known and sorted(names) == sorted(known):
                raise BagError(
                    f'its elements come in the order {listed(names)}, those of other bags in the '
                    f'order {listed(known)}; give joints in the profile, by which they are read '
                    f'by name ({part})'
                )
        for key, size in shard_format.sizes.items():
            if size != self._sizes.get(key, size):
                raise self._other_size(key, shard_format)
        for key, coding in shard_format.codings.items():
            if coding != self._codings.get(key, coding):
                raise self._other_coding(key, shard_format)
        if self._onto is not None:
            check_fits(
                self._onto,
                shard_format.features,
                shard_format.video,
                fps=shard_format.fps,
                robot_type=shard_format.robot_type,
                version=self._version,
            )

    def _settle_names(self, formats: Mapping[str, ShardFormat]) -> None:
        """Take the names that most bags have."""
        counts: dict[str, Counter[tuple[str, ...]]] = {}
        for shard_format in formats.values():
            for part, names in shard_format.names.items():
                counts.setdefault(part, Counter())[tuple(names)] += 1
        for part, count in counts.items():
            self._names.setdefault(part, count.most_common(1)[0][0])

    def _other_size(self, key: str, shard_format: ShardFormat) -> BagError:
        found, wanted = (
            '{1}x{0}'.format(*sizes[key]) for sizes in (shard_format.sizes, self._sizes)
        )
        whose = f'those of the run are {wanted}, as in {Path(self._first).name}'
        advice = 'give the camera a size in the profile'
        video = shard_format.video.get(key)
        if video is not None and (video.copied or video.vcodec == COPY):
            advice += ' and set video: encode'
        if self._onto is not None:
            whose, advice = f'those of the dataset are {wanted}', 'choose another output for it'
        return BagError(
            f'{shard_format.topics.get(key, key)}: pictures of {found}, {whose}; {advice} ({key})'
        )

    def _other_coding(self, key: str, shard_format: ShardFormat) -> BagError:
        found, wanted = (
            f'{codec} {pix_fmt} ({"copied" if copied or codec == COPY else "encoded"})'
            for codec, pix_fmt, copied in (shard_format.codings[key], self._codings[key])
        )
        return BagError(
            f'{shard_format.topics.get(key, key)}: pictures in {found}, those of the run in '
            f'{wanted}, as in {Path(self._first).name}; set video: encode ({key})'
        )


def _form_of(shard_format: ShardFormat) -> tuple[object, ...]:
    return (*shard_format.sizes.items(), *shard_format.codings.items())


def unlike_codings(formats: Iterable[ShardFormat]) -> frozenset[str]:
    """Return the cameras whose pictures are not coded alike in all shards."""
    seen: dict[str, set[tuple[str, str, bool]]] = {}
    for shard_format in formats:
        for key, coding in shard_format.codings.items():
            seen.setdefault(key, set()).add(coding)
    return frozenset(key for key, codings in seen.items() if len(codings) > 1)
