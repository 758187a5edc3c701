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

"""What a frame is made of: the features, their topics, and how topics are aligned."""

from __future__ import annotations

from dataclasses import dataclass, replace
import re
from typing import Literal, NamedTuple

Strategy = Literal['nearest', 'hold', 'linear', 'slerp']
Timeline = Literal['bag', 'header']
OnGap = Literal['keep', 'hold', 'drop', 'split', 'fail', 'mark', 'zeros']
Reduce = Literal['any', 'max', 'mean', 'last']
LanguageStyle = Literal['subtask', 'plan', 'memory', 'motion', 'interjection']
LanguageRole = Literal['user', 'assistant']
OnLength = Literal['refuse', 'pad', 'cut', 'pad_or_cut']

Dtype = Literal['float32', 'float64', 'int32', 'int64', 'bool']
INTEGERS = ('int32', 'int64')

IN_DATASET = '{dataset}/'
"""Begins a path in the profile that a dataset keeps: it is relative to the dataset's folder."""

StampUnit = Literal['', 's', 'ms', 'us', 'ns']

POSE_FIELDS = (
    'translation.x', 'translation.y', 'translation.z',
    'rotation.x', 'rotation.y', 'rotation.z', 'rotation.w',
)  # fmt: skip
"""Fields of a source that is a transform: m, and a unit quaternion."""

_NS, _MS = 1e9, 1e6

GAP_MARK = 999.0
"""Value of an arm joint in a gap under the original converter's rule."""


@dataclass(frozen=True)
class Align:
    """
    Which message of a topic serves a frame.

    A frame is in a gap of the topic if its message is further away than ``tolerance_ms``, if it
    lies strictly between two consecutive messages more than ``gap_ms`` apart, or if the topic has
    no message for it at all; then ``on_gap`` says what happens.
    """

    strategy: Strategy = 'nearest'
    timeline: Timeline = 'bag'
    tolerance_ms: float | None = None
    gap_ms: float | None = None
    on_gap: OnGap = 'keep'
    zeros_before_first: bool = False
    """Frames before the topic's first message get zeros; it is held afterwards (``hold``)."""
    reduce: Reduce | None = None
    """
    What becomes of the messages since the last frame, that of this frame included (``hold``).

    Where there is none, the last message before is held.
    """
    offset_ms: float = 0.0
    """Added to the stamps of the topic: what is under way for long is stamped too late."""
    shift: int = 0
    """Frames to look ahead in the episode; so many frames at its end are left out."""


@dataclass(frozen=True)
class Transform:
    """The pose of a frame in another one, along the chain of transforms between them."""

    parent: str
    child: str
    static_topic: str
    """Topic of the transforms that never change; the others are on that of the source."""


@dataclass(frozen=True)
class Source:
    """Where values come from: one topic and fields of its messages, concatenated."""

    topic: str
    fields: tuple[str, ...] = ()
    """Field paths such as ``joint_data.joint_q``; none for a camera."""
    msgtypes: tuple[str, ...] = ()
    """Types that fit, as ``pkg/msg/Type``; none means any that has the fields."""
    align: Align | None = None
    """In place of the part's or camera's own, if this source is taken."""
    names_field: str | None = 'name'
    """
    Path of the texts that name the elements of the field, for a part with ``joints``.

    Without ``joints``, None says that no texts beside the field tell what it belongs to.
    """
    frame_ids: tuple[str, ...] | None = ()
    """
    Only messages whose header names one of these frames serve.

    None takes those of any frame; with no frame named, they must all be of the same one.
    """
    publisher: str = ''
    """Only messages of this node serve, if given."""
    stamp_field: str = ''
    """Path of the stamp that stands for a header's on ``timeline: header``, if given."""
    stamp_unit: StampUnit = ''
    """Of a stamp that is a number; what fits the receive stamps if not given."""
    tf: Transform | None = None
    """What the source is in place of fields of messages: a transform, see :data:`POSE_FIELDS`."""


REPRESENTATIONS = {
    'quaternion_xyzw': ('x', 'y', 'z', 'w'),
    'quaternion_wxyz': ('w', 'x', 'y', 'z'),
    'matrix': ('00', '01', '02', '10', '11', '12', '20', '21', '22'),
    'rot6d_rows': tuple('012345'),
    'rot6d_columns': tuple('012345'),
    'rotvec': ('x', 'y', 'z'),
}
"""What the numbers of representations of rotations are called, Euler angles left aside."""
_EULER = re.compile('euler_([xyz]{3}|[XYZ]{3})(_deg)?')


class EulerAngles(NamedTuple):
    """A convention of Euler angles."""

    axes: tuple[int, int, int]
    """In the order of the turns, 0 for x."""
    intrinsic: bool
    """About the axes of the body, each as the turns before have left it; else about fixed axes."""
    degrees: bool


@dataclass(frozen=True)
class Rotation:
    """
    How the rotation that a part is was recorded, and how it is written.

    A representation is ``quaternion_xyzw``, ``quaternion_wxyz``, ``matrix`` (row by row),
    ``rot6d_rows`` or ``rot6d_columns`` (the first two rows or columns of the matrix, one after the
    other), ``rotvec`` (axis times angle, rad), or Euler angles in rad: ``euler_`` and three axes,
    ``xyz`` about fixed axes and ``XYZ`` about those of the body; ``euler_xyz_deg`` in degrees.
    """

    recorded: str
    written: str

    @staticmethod
    def euler(representation: str) -> EulerAngles | None:
        """Return the convention of a representation by Euler angles; None of any other."""
        match = _EULER.fullmatch(representation)
        if match is None:
            return None
        first, second, third = ('xyz'.index(axis) for axis in match[1].lower())
        if second in (first, third):
            return None
        return EulerAngles((first, second, third), match[1].isupper(), bool(match[2]))

    @staticmethod
    def elements_of(representation: str) -> tuple[str, ...]:
        """Return what the numbers of a representation are called, () if there is none such."""
        if representation not in REPRESENTATIONS and Rotation.euler(representation) is not None:
            axes = [*representation.removeprefix('euler_')[:3]]
            return axes[0], axes[1], axes[2] + ('2' if axes[2] == axes[0] else '')
        return REPRESENTATIONS.get(representation, ())


@dataclass(frozen=True)
class Part:
    """
    Consecutive elements of a vector feature, taken from one topic.

    ``sources`` are alternatives: the first whose topic the bag has is used. The operations apply
    in the order of their fields, in float64.
    """

    names: tuple[str, ...]
    sources: tuple[Source, ...]
    length: int | None = None
    """Elements that the fields have together; ``on_length`` says what becomes of others."""
    select: tuple[int, ...] | None = None
    """Elements to take, in this order; all if not given."""
    joints: tuple[str, ...] = ()
    """Elements to take by the names that each message gives them; in place of ``select``."""
    unit: Literal['', 'deg2rad', 'rad2deg', 'angle', 'angle_deg'] = ''
    """``angle``, ``angle_deg``: angles in radians or degrees, which go the shorter way."""
    value_range: tuple[float, float] | None = None
    """Map this range to [0, 1] (values outside are not clipped)."""
    scale: float | None = None
    offset: float | None = None
    threshold: float | None = None
    """1 where the value is greater, else 0."""
    relative_to_start: bool = False
    """Subtract the value at the first frame of the episode that has one."""
    gap_flag: bool = False
    """The part is one element: 1 where the frame is in a gap of the topic (``gap_ms``), else 0."""
    align: Align = Align()
    stand_in: Part | None = None
    """Takes its place, under the same names, in a bag that has messages of none of the sources."""
    nan: Literal['fail', 'hold'] | float = 'fail'
    """What becomes of NaN and infinity: the bag fails, the number of the frame before is held, or
    this number stands in."""
    quaternion: Literal['', 'continuous', 'positive_w', 'as_recorded'] = ''
    """The four elements are a quaternion, of which q and -q are the same rotation. ``continuous``:
    each has the sign that is nearer to the one before it in its episode. So have those of
    ``slerp``, and fields x, y, z and w of one parent, also where nothing is said."""
    last_frame: bool = False
    """The part is one element without a topic: 1 at the last frame of each episode, else 0."""
    on_length: OnLength = 'refuse'
    """What becomes of a message with less (``pad``) or more (``cut``) elements than ``length``."""
    pad_value: float = 0.0
    """What the elements are that a message is padded with, before all operations."""
    element_count: bool = False
    """The part is one element: how many the fields have together in the message."""
    rotation: Rotation | None = None
    """What the numbers of the message become, after ``nan`` and before all other operations."""

    @property
    def takes_empty(self) -> bool:
        """Whether a message without elements says something, and is not passed by."""
        return self.element_count or self.on_length in ('pad', 'pad_or_cut')

    @property
    def recorded_names(self) -> tuple[str, ...]:
        """
        Names of the numbers that a message has for the part.

        They are those of its elements, but for a rotation, which becomes other numbers.
        """
        if self.rotation is None:
            return self.names
        return Rotation.elements_of(self.rotation.recorded)

    def real_part(self, source: Source) -> int | None:
        """Return which element of a quaternion is w, by the fields or else by the names."""
        if self.rotation is not None:
            elements = Rotation.elements_of(self.rotation.written)
            return elements.index('w') if 'w' in elements else None
        fields = source.fields if len(source.fields) == len(self.names) else ()
        for texts in ([path.rpartition('.')[2] for path in fields], self.names):
            found = [place for place, text in enumerate(texts) if text.lower().endswith('w')]
            if len(found) == 1:
                return found[0]
        return None


@dataclass(frozen=True)
class VectorFeature:
    """A vector: its parts one after the other."""

    key: str
    parts: tuple[Part, ...]
    minus: str | None = None
    """Key of a feature whose elements of the same name are subtracted (a delta action)."""
    dtype: Dtype = 'float32'
    samples: int = 1
    """Rows of elements that each frame has, evenly spaced in time up to the frame."""
    window_ms: float | None = None
    """Time that the samples of a frame stand for; from one frame to the next if not given."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the elements."""
        return tuple(name for part in self.parts for name in part.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (elements,), or (samples, elements) where there are several samples."""
        elements = len(self.names)
        return (elements,) if self.samples == 1 else (self.samples, elements)

    def sample_offsets(self, fps: int) -> tuple[int, ...]:
        """Return how long before its frame each sample lies, ns; the last lies at the frame."""
        window = _NS / fps if self.window_ms is None else self.window_ms * _MS
        return tuple(round(place * window / self.samples) for place in range(self.samples))[::-1]


class Crop(NamedTuple):
    """A part of a picture, in pixels of the picture as it is recorded (upright)."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class CameraFeature:
    """A colour camera, or a depth camera if ``depth`` says how to write it."""

    key: str
    sources: tuple[Source, ...]
    size: tuple[int, int] | None = None
    """(height, width); the camera's own size if not given."""
    depth: Literal['', 'original', 'range8', 'metric12', 'image16', 'copy'] = ''
    depth_range: tuple[int, int] = (0, 1500)
    """[min, max] in mm, for the 8 bit codings."""
    align: Align = Align()
    crop: Crop | None = None
    """The part of each picture to take; all if not given."""
    rotate: Literal[0, 90, 180, 270] = 0
    """Degrees, clockwise, after ``crop``."""
    fit: Literal['', 'scale', 'pad', 'crop'] = ''
    """How pictures of other proportions than ``size`` get it: stretched (``scale``, also if not
    given), framed in black, or cut. Without ``size``, how pictures get a size that can be stored
    whose own cannot; they are refused if it is not given."""
    value_range: tuple[float, float] | None = None
    """[black, white] of grey pictures of more than 8 bits; all 16 bits if not given."""
    unit_mm: float | None = None
    """What a depth of 1 is, mm; if not given, 1 for whole numbers and 1000 for others."""
    store: Literal['video', 'image'] = 'video'
    """Whether pictures become a video, or are stored in the table one by one, without loss, as
    depth of 16 bits (``image16``, ``copy``) always is."""
    info_topic: str = ''
    """Of its CameraInfo, for the record; that beside the camera's topic if not given."""

    @property
    def dtype(self) -> Literal['video', 'image']:
        """Return LeRobot's dtype of the feature."""
        if self.depth in ('image16', 'copy'):
            return 'image'
        return 'video' if self.depth == 'metric12' else self.store

    @property
    def channels(self) -> int:
        """Return how many channels its pictures have in a dataset: 1 where they are depth."""
        return 1 if self.depth in ('metric12', 'image16', 'copy') else 3


@dataclass(frozen=True)
class Clock:
    """Where the frames of an episode lie in time: the pictures of one camera, thinned out."""

    sources: tuple[Source, ...]
    source_fps: float
    most_messages: bool = False
    """Take the source with most messages in the bag, not the first that the bag has."""
    decimation: Literal['auto', 'jump', 'time'] = 'auto'
    drop: int = 0
    """Messages of the clock's topic to leave out at each end."""
    end_trim: Literal['min_end', 'max_end', 'none'] = 'min_end'
    end_topics: tuple[str, ...] = ()
    """Topics besides the features' own whose last message counts for ``end_trim``."""
    timeline: Timeline = 'bag'
    absurd_stamp_s: float = 60.0
    """Stamps further off are not used, see :mod:`kuavo_bag_converter.alignment.stamps`."""
    on_step_back: Literal['split', 'fail'] = 'split'
    """What is done where a clock was set back: an episode ends, or the bag is refused."""
    on_pause: Literal['split', 'keep'] = 'split'
    """What is done where no topic says anything: an episode ends, or frames are as any others."""


@dataclass(frozen=True)
class TimeRange:
    """A piece of a bag that is one episode; seconds since the bag's first frame clock message."""

    start_s: float
    stop_s: float
    """Exclusive."""
    task: str = ''
    """In place of the profile's task, if given."""


@dataclass(frozen=True)
class Episodes:
    """How a bag is cut into episodes; one episode if nothing is set."""

    ranges: tuple[TimeRange, ...] = ()
    marks_file: str = ''
    """Annotation with ``marks[]`` beside the bag; ``{bag}`` stands for the bag's name without
    ending."""
    sources: tuple[Source, ...] = ()
    """Topic whose messages cut; one field."""
    rule: Literal['while_true', 'each_message', 'events'] = 'while_true'
    """``while_true``: an episode lasts while the field is true (not zero). ``each_message``: every
    message begins an episode that lasts until the next. ``events``: the field's text begins, ends
    or discards an episode."""
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    discard: tuple[str, ...] = ()
    """Texts for ``events``; a discarded episode is left out and counted."""
    min_episode_s: float = 0.0
    """Episodes that are shorter are left out and counted."""

    @property
    def cuts(self) -> bool:
        """Whether a rule cuts bags."""
        return bool(self.ranges or self.marks_file or self.sources)


@dataclass(frozen=True)
class Language:
    """A topic whose texts become rows of LeRobot's language columns, or a column of their own."""

    sources: tuple[Source, ...]
    """One field, a text."""
    style: LanguageStyle | Literal[''] = ''
    role: LanguageRole | Literal[''] = ''
    key: str = ''
    """Of a column that has the text of each frame, in place of style and role."""

    @property
    def lasts(self) -> bool:
        """Whether a text holds until the next one; else it is said at one frame."""
        return self.style != 'interjection'


@dataclass(frozen=True)
class Profile:
    """Everything that turns the topics of a bag into the frames of a dataset."""

    name: str
    robot_type: str
    fps: int
    clock: Clock
    features: tuple[VectorFeature | CameraFeature, ...]
    task: str
    task_sources: tuple[Source, ...] = ()
    """Topic with the task as text; each frame has the last one before it, or ``task``."""
    episodes: Episodes = Episodes()
    language: tuple[Language, ...] = ()

    def for_bag(self, task: str, ranges: tuple[TimeRange, ...]) -> Profile:
        """
        Return it as it holds for one bag.

        :param task: Of the bag, in place of that of the profile, if it has one.
        :param ranges: Pieces that the bag is cut into, in place of what the profile says, if it
            has any.
        """
        episodes = self.episodes
        if ranges:
            episodes = Episodes(ranges=ranges, min_episode_s=episodes.min_episode_s)
        return replace(self, task=task or self.task, episodes=episodes)

    @property
    def vectors(self) -> tuple[VectorFeature, ...]:
        """Return the features of the table."""
        return tuple(item for item in self.features if isinstance(item, VectorFeature))

    @property
    def cameras(self) -> tuple[CameraFeature, ...]:
        """Return the features that become videos."""
        return tuple(item for item in self.features if isinstance(item, CameraFeature))
