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
Every setting of a conversion: one table for the command line, YAML files and ROS parameters.

A settings file has the form of a ROS 2 parameter file, so that one file serves the node and the
command line::

    /**:
      ros__parameters:
        train_hz: 10
        resize: {width: 640, height: 480}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
import functools
from pathlib import Path
import sys
from typing import Any, get_type_hints, NamedTuple, TypeVar

from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import without_package
from kuavo_bag_converter.support.places import without_file_scheme
from kuavo_bag_converter.support.plugins import Plugin, plugins, ROBOTS
from kuavo_bag_converter.support.texts import did_you_mean

OF_A_RUN = (
    'bags', 'output', 'shard', 'append', 'retry_failed', 'executor', 'jobs', 'spool_dir',
    'spool_mb',
)  # fmt: skip
"""Settings that say what a run does, and where; a dataset does not record them."""
NODE_NAME = 'convert_node'
AUTO = 'auto'
_X26X_PRESETS = (
    'ultrafast',
    'superfast',
    'veryfast',
    'faster',
    'fast',
    'medium',
    'slow',
    'slower',
    'veryslow',
    'placebo',
)
PRESETS = {
    'h264': _X26X_PRESETS,
    'hevc': _X26X_PRESETS,
    'libsvtav1': tuple(str(preset) for preset in range(14)),
}
"""Of the software encoder of each video codec."""
_AUTO_PRESET = {'h264': 'superfast', 'hevc': 'ultrafast', 'libsvtav1': '10'}
FASTEST = 'fastest'
_FASTEST_PRESET = {'h264': 'ultrafast', 'hevc': 'ultrafast', 'libsvtav1': '12'}
HARDWARE_ENCODERS = {
    f'{codec}_{kind}': codec
    for codec in ('h264', 'hevc')
    for kind in ('nvenc', 'qsv', 'vaapi', 'nvmpi', 'v4l2m2m')
}
"""The codec of each, by FFmpeg's names; the order in which they are tried."""
RESERVED = ('use_sim_time', 'start_type_description_service', 'qos_overrides', 'version')
"""Parameters that every ROS node has, and what the record of a conversion has beside settings."""
_Options = TypeVar('_Options')

_RETIRED = {'method': ('chunked', 'the reference methods are run by the command benchmark')}
"""Settings that were, each with the value that is left, which means nothing, and what to do."""

_KINDS: dict[Any, str] = {
    bool: 'bool',
    int: 'int',
    float: 'float',
    str: 'str',
    tuple[int, ...]: 'int list',
    tuple[str, ...]: 'str list',
}


def setting(
    default: Any,
    description: str,
    *,
    name: str = '',
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    yaml: str = '',
    former: Mapping[str, str] | None = None,
) -> Any:
    """
    Declare a setting as a field of :class:`Settings` or of a robot's options.

    The field is a bool, an int, a float, a str, or a tuple of any number of int or of str.

    :param default: Its value where none is given.
    :param description: One sentence for --help, parameter files and ROS parameters.
    :param name: As users write it, if not as the field; groups are dotted (``resize.width``).
    :param choices: All that a text may be; any, if there are none.
    :param minimum: Of a number, or of each in a list.
    :param maximum: Likewise.
    :param yaml: What a YAML profile has in place of a robot's option.
    :param former: Choices of former versions, and what they are called now.
    """
    metadata = {
        'name': name,
        'description': description,
        'choices': choices,
        'minimum': minimum,
        'maximum': maximum,
        'yaml': yaml,
        'former': former or {},
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The settings of one run; a field's metadata holds its description, choices and range."""

    bags: tuple[str, ...] = setting(
        (),
        'Bags to convert: files, rosbag2 directories, folders that hold many of them, patterns '
        '(*, **), lists (.txt, a path in each line) or tables (.csv, .parquet) with the column '
        'path; a column task names their tasks, all others become labels in the record.',
    )
    output: str = setting('', 'Folder of the dataset to write; it must not exist yet.')
    profile: str = setting(
        'kuavo',
        'What a frame is made of: "kuavo" or another robot (built from its settings), or a YAML '
        'profile, by path or by the name of a shipped one.',
    )

    robot_options: tuple[Any, ...] = ()
    """Options of robots, see :meth:`options_of`; those that are all defaults are left out."""
    profile_object: Any = None
    """A profile that takes the place of what is in the file ``profile``."""

    tasks: str = setting(
        '',
        'The task of each bag, in place of that of the profile: folder (the name of the folder '
        'that it lies in), custom_data:KEY (what its metadata.yaml has there), annotation:KEY '
        '(what the JSON file beside it has there), or the path of a table (.csv, .parquet) with '
        'the columns path and task. The task in a table of bags wins.',
    )
    labels: tuple[str, ...] = setting(
        (),
        'Keys of the custom_data of recordings (in metadata.yaml), such as outcome: what is there '
        'becomes the columns labels/KEY of the list of episodes.',
    )
    shard: str = setting(
        '',
        'I/N, such as 1/4: convert only part I of N of the bags; assemble joins all.',
    )
    num_used: int = setting(
        0, 'Bags to use, drawn at random, the same ones with the same seed; 0 is all.', minimum=0
    )
    seed: int = setting(42, 'With which num_used draws.', minimum=0)
    chunk_size: int = setting(
        100, 'Frames that are buffered at most and flushed together.', minimum=1, maximum=100000
    )
    reader: str = setting(
        'auto',
        'Bag reader: auto or portable (needs no ROS and locks nothing), or rosbag2_py.',
        choices=('auto', 'rosbag2_py', 'portable'),
    )
    on_damage: str = setting(
        'fail',
        'A damaged bag: fail, or salvage what can be read and report what is lost.',
        choices=('fail', 'salvage'),
    )
    on_bad_image: str = setting(
        'fail',
        'A picture that cannot be decoded: fail the bag, repeat (the picture before it stands '
        'in), drop (keep the longest piece without), split (new episode after it).',
        choices=('fail', 'repeat', 'drop', 'split'),
    )
    on_error: str = setting(
        'continue',
        'After a bag that cannot be converted: continue with the next, or stop.',
        choices=('continue', 'stop'),
    )
    append: bool = setting(
        False, 'Add the bags to the dataset that output already is; bags in it are left out.'
    )
    retry_failed: bool = setting(
        False,
        'Convert the bags that failed when output was made, with the settings it was made with; '
        'they are looked for where they were, or by name among bags.',
    )
    on_change: str = setting(
        'fail',
        'An unfinished run beside output that had other settings, or a bag that has changed '
        'since: fail, or redo what differs.',
        choices=('fail', 'redo'),
    )
    check_disk: bool = setting(
        True, 'Stop before a bag if the disk has less room than the run is estimated to need.'
    )
    stall_timeout_s: float = setting(
        300.0, 'Give a bag up when no message is finished for so long, s.', minimum=1.0
    )
    msg_path: tuple[str, ...] = setting(
        (), 'Folders with .msg files, for bags that embed no message definitions.'
    )
    distro: str = setting(
        'humble', 'ROS 2 distro of standard message types that a bag does not define.'
    )
    dataset_format: str = setting(
        'lerobot', 'Format of the dataset: lerobot, or one that an installed package writes.'
    )
    lerobot_version: str = setting(
        'v3.0',
        "Version of LeRobot's format: v3.0 (LeRobot 0.4 or later) or v2.1.",
        choices=('v3.0', 'v2.1'),
    )
    modality: str = setting(
        AUTO,
        "Write GR00T's meta/modality.json: true, false, or auto, which is true for v2.1.",
        choices=(AUTO, 'true', 'false'),
    )
    video: str = setting(
        'encode',
        'Colour videos: encode; copy the JPEG, H.264 or H.265 pictures of the bag as they are, or '
        'fail where that cannot be; auto copies what it can and encodes the rest.',
        choices=('encode', 'copy', AUTO),
    )
    vcodec: str = setting(
        'h264',
        "Video codec, or an encoder in hardware by FFmpeg's name; auto is h264 by the first such "
        'encoder that works here, else by software.',
        choices=(*PRESETS, AUTO, *HARDWARE_ENCODERS),
    )
    crf: int = setting(
        23, 'Constant rate factor: lower is better and larger.', minimum=0, maximum=63
    )
    preset: str = setting(
        AUTO,
        'Speed preset of the encoder, in its own terms; auto is superfast of h264, ultrafast of '
        'hevc, 10 of libsvtav1; fastest is ultrafast or 12.',
        choices=(AUTO, FASTEST, *_X26X_PRESETS, *PRESETS['libsvtav1']),
    )
    gop: int = setting(2, 'Pictures from one key frame to the next.', minimum=1, maximum=600)
    pix_fmt: str = setting(
        'yuv420p',
        'Pixel format of the video: 4:4:4 keeps the colour of every pixel, 10le are 10 bits.',
        choices=('yuv420p', 'yuv444p', 'yuv420p10le', 'yuv444p10le'),
    )
    executor: str = setting(
        'local',
        'Where bags are converted: local, or ray (on the cluster at RAY_ADDRESS, whose nodes see '
        'the bags and the output).',
        choices=('local', 'ray'),
    )
    jobs: int = setting(
        1,
        'Bags that are converted beside each other, each in a process of its own; 0 is as many as '
        'cores and memory allow. The dataset is the same.',
        minimum=0,
        maximum=1024,
    )
    threads: int = setting(
        0,
        'Threads that decode and encode a bag; 0 shares the cores out to the bags that are '
        'converted beside each other.',
        minimum=0,
        maximum=256,
    )
    spool_dir: str = setting(
        '',
        'Folder for copies of bags that are given by URLs; if not given, one in the cache of the '
        'user.',
    )
    spool_mb: int = setting(
        0, 'What those copies may take of the disk, MB; 0 is what it has free.', minimum=0
    )
    debug_memory: bool = setting(
        False,
        'After each chunk, wait until its messages are written and fail if one is still held.',
    )
    memory_limit_mb: int = setting(
        0, 'Memory that the run may use, all processes together, MB; 0 is no limit.', minimum=0
    )

    def options_of(self, kind: type[_Options]) -> _Options:
        """Return the options of a robot, by their class."""
        return next((mine for mine in self.robot_options if type(mine) is kind), kind())

    def writes_modality(self, has_one: bool | None) -> bool:
        """
        Tell whether a dataset gets a ``meta/modality.json``.

        :param has_one: Whether the dataset that is added to has one, which stays; None if none is.
        """
        if self.modality == AUTO:
            return has_one is None and self.lerobot_version == 'v2.1'
        return self.modality == 'true' and not has_one

    @property
    def encoder_preset(self) -> str:
        """Return the speed preset that ``preset`` is or stands for, of a software encoder."""
        meant = {AUTO: _AUTO_PRESET, FASTEST: _FASTEST_PRESET}.get(self.preset)
        return self.preset if meant is None else meant[codec_of(self.vcodec)]

    def with_options(self, options: object) -> Settings:
        """Return these settings with other options of one robot."""
        kind = type(options)
        mine = [other for other in self.robot_options if type(other) is not kind]
        return replace(self, robot_options=(*mine, *([options] if options != kind() else [])))


def codec_of(vcodec: str) -> str:
    """Return the codec of what the setting ``vcodec`` names."""
    return 'h264' if vcodec == AUTO else HARDWARE_ENCODERS.get(vcodec, vcodec)


_NOT_SETTINGS = ('robot_options', 'profile_object')
"""Fields of :class:`Settings` that users do not write."""


class SettingInfo(NamedTuple):
    """One row of the table of settings."""

    name: str
    attribute: str
    kind: str
    """``bool``, ``int``, ``float``, ``str``, ``int list`` or ``str list``."""
    default: Any
    description: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    yaml: str
    """What a YAML profile has in place of a robot's option."""
    former: Mapping[str, str]
    """Choices of former versions, and what they are called now."""
    owner: type
    """The dataclass of which it is a field: :class:`Settings` or a robot's options."""
    robot: Plugin | None
    """The robot whose option it is."""

    def value_in(self, settings: Settings) -> Any:
        """Return its value in some settings, a list as a list."""
        owner = settings if self.robot is None else settings.options_of(self.owner)
        return _plain(getattr(owner, self.attribute))

    def is_default_in(self, settings: Settings) -> bool:
        """Tell whether it has its default in some settings."""
        return bool(self.value_in(settings) == _plain(self.default))


@functools.cache
def known_settings() -> Mapping[str, SettingInfo]:
    """
    Return every setting by its name, with the options of every robot after ``profile``.

    :raises UsageError: A robot that is installed beside the package cannot be used.
    """
    own = {info.name: info for info in _described(Settings)}
    owners = dict.fromkeys((_group(name) for name in (*own, *RESERVED)), 'the converter')
    options: dict[str, SettingInfo] = {}
    for robot in plugins(ROBOTS).values():
        for info in _described(getattr(robot.value, 'options', Plugin), robot):
            owner = owners.setdefault(_group(info.name), robot.name)
            if owner != robot.name or info.name in options:
                raise UsageError(f'{robot}: the setting {info.name!r} is taken by {owner}')
            options[info.name] = info
    rows: dict[str, SettingInfo] = {}
    for name, info in own.items():
        rows |= {name: info, **(options if name == 'profile' else {})}
    return rows


def _described(owner: type, robot: Plugin | None = None) -> Iterator[SettingInfo]:
    try:
        hints = get_type_hints(owner)
        for item in fields(owner):
            if item.name in _NOT_SETTINGS and robot is None:
                continue
            rest = dict(item.metadata)
            name = rest.pop('name') or item.name
            kind = _KINDS[hints[item.name]]
            yield SettingInfo(
                name, item.name, kind, item.default, **rest, owner=owner, robot=robot
            )
    except (KeyError, TypeError, NameError) as error:
        raise UsageError(
            f'{robot}: its options must be a dataclass whose fields are made by setting(), each a '
            f'{", ".join(_KINDS.values())} ({error!r})'
        ) from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _group(name: str) -> str:
    return name.partition('.')[0]


def is_table(tasks: str) -> bool:
    """Tell whether a path, or the setting ``tasks``, names a table."""
    return tasks.lower().endswith(('.csv', '.parquet'))


def settings_from(values: Mapping[str, object], source: str) -> Settings:
    """
    Check values and make settings of them; what is not given has its default.

    :param values: By setting name; nested mappings are joined with dots.
    :param source: Where the values come from, for the errors.
    :raises UsageError: A name is unknown or a value is not allowed.
    """
    return updated(Settings(), values, source)


def updated(settings: Settings, values: Mapping[str, object], source: str) -> Settings:
    """
    Like :func:`settings_from`, on top of other settings.

    :raises UsageError: A name is unknown or a value is not allowed.
    """
    known = known_settings()
    changes: dict[type, dict[str, Any]] = {}
    for name, value in _flat(values):
        if name in _RETIRED:
            left, advice = _RETIRED[name]
            if value != left:
                raise UsageError(f'{source}: {name}: is no setting any more; {advice}')
            continue
        info = known.get(name)
        if info is None:
            raise UsageError(f'{source}: unknown setting {name!r}{did_you_mean(name, known)}')
        changes.setdefault(info.owner, {})[info.attribute] = _checked(info, value, source)
    settings = replace(settings, **changes.pop(Settings, {}))
    for owner, changed in changes.items():
        settings = settings.with_options(replace(settings.options_of(owner), **changed))
    return settings


def described(kind: type) -> dict[str, SettingInfo]:
    """Return by name what the fields of options beside the settings are, as of a command."""
    return {info.name: info for info in _described(kind)}


def options_from(kind: type[_Options], values: Mapping[str, object], source: str) -> _Options:
    """
    Check values and make options beside the settings of them.

    :param kind: Their dataclass, whose fields are made by :func:`setting`.
    :param values: By name.
    :param source: Where the values come from, for the errors.
    :raises UsageError: A value is not allowed.
    """
    known = described(kind)
    return kind(
        **{
            known[name].attribute: _checked(known[name], value, source)
            for name, value in values.items()
        }
    )


def values_of(settings: Settings) -> dict[str, object]:
    """Return all settings by name, lists as lists: what JSON and YAML can hold."""
    return {name: info.value_in(settings) for name, info in known_settings().items()}


def recorded_values(settings: Settings) -> dict[str, object]:
    """
    Return the settings that a dataset is made with, by name, as JSON can hold them.

    Options of a robot that is installed beside the package are among them if it is the profile's:
    else a dataset would depend on what is installed. ``preset`` of a software encoder is what it
    stands for.
    """
    if settings.vcodec in PRESETS:
        settings = replace(settings, preset=settings.encoder_preset)
    return {
        name: info.value_in(settings)
        for name, info in known_settings().items()
        if info.robot is None or not info.robot.package or info.robot.name == settings.profile
    }


def read_params_file(path: str, name: str = NODE_NAME) -> dict[str, object]:
    """
    Read a ROS 2 parameter file: the values for every node, then those for the one of a name.

    :raises UsageError: The file cannot be read or has another form.
    """
    import yaml  # here, so that --help is quick

    try:
        text = Path(path).read_text(encoding='utf-8')
        document = yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f'{path}: cannot read the parameter file: {error.strerror}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, too
        raise UsageError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from error
    values: dict[str, object] = {}
    found = False
    for node in ('/**', name, f'/{name}'):
        block = document.get(node) if isinstance(document, dict) else None
        if block is None:
            continue
        parameters = block.get('ros__parameters') if isinstance(block, dict) else None
        if not isinstance(parameters, dict):
            raise UsageError(f'{path}: {node}: expected a mapping "ros__parameters"')
        values.update(_flat(parameters))
        found = True
    if not found:
        raise UsageError(
            f'{path}: no parameters for this node: expected "/**:" or "{name}:" with '
            '"ros__parameters:" below it'
        )
    return values


def parse_assignments(assignments: Iterable[str]) -> dict[str, object]:
    """
    Read ``name=value`` pairs; a value is written as in YAML.

    :raises UsageError: A pair has no ``=`` or its value is not valid YAML.
    """
    values: dict[str, object] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition('=')
        if not equals:
            raise UsageError(f'--set {assignment}: expected name=value')
        values[name.strip()] = parse_value(text, f'--set {assignment}')
    return values


def parse_value(text: str, source: str) -> object:
    """
    Read a value that is written as in YAML.

    :param source: What it is, for the error.
    :raises UsageError: It is not valid YAML.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a month 13
        raise UsageError(f'{source}: not a valid value') from error


def _flat(values: Mapping[Any, object], prefix: str = '') -> Iterable[tuple[str, object]]:
    for key, value in values.items():
        name = f'{prefix}{key}'
        if isinstance(value, Mapping) and name not in known_settings():
            yield from _flat(value, f'{name}.')
        else:
            yield name, value


def _checked(info: SettingInfo, value: object, source: str) -> object:
    result = _converted(info, value)
    if isinstance(result, str):
        result = info.former.get(result, result)
    if result is None:
        raise UsageError(
            f'{source}: {info.name}: expected {_expected(info)}, found {value!r}'
            f'{_way_of_writing(info, value)}'
        )
    items = result if isinstance(result, tuple) else (result,)
    for number in items:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        low, high = info.minimum, info.maximum
        if (low is not None and number < low) or (high is not None and not number <= high):
            raise UsageError(f'{source}: {info.name}: expected {_expected(info)}, found {value!r}')
    for text in items if info.choices else ():
        if text not in info.choices:
            near = did_you_mean(str(text), info.choices)
            raise UsageError(
                f'{source}: {info.name}: expected {_expected(info)}, found {text!r}{near}'
            )
    items = tuple(
        without_file_scheme(without_package(one)) if isinstance(one, str) else one for one in items
    )
    return items if isinstance(result, tuple) else items[0]


def _converted(info: SettingInfo, value: object) -> Any:
    """Return the value in the setting's own type, or None where it does not fit."""
    if info.kind == 'str' and info.choices and isinstance(value, (int, float)):
        # YAML reads platform_type: 5 as a number, use_depth: true as a truth value.
        value = str(value).lower()
    if info.kind in ('int list', 'str list'):
        if not isinstance(value, (list, tuple)):
            return None
        wanted = int if info.kind == 'int list' else str
        fits = all(isinstance(item, wanted) and not isinstance(item, bool) for item in value)
        return tuple(value) if fits else None
    if value is None:
        return 0 if info.name == 'num_used' else None  # the original writes null for "all"
    if info.kind == 'bool':
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if info.kind == 'int':
        return value if isinstance(value, int) else None
    if info.kind == 'float':
        if not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            return None
        return float(value)
    return value if isinstance(value, str) else None


def _way_of_writing(info: SettingInfo, value: object) -> str:
    """Say how YAML and ROS are made to read a value as the text or list that it is meant to be."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if info.kind not in ('str', 'str list', 'int list') or not items or None in items:
        return ''
    if info.kind != 'int list':
        items = [f"'{item}'" for item in items]
    elif not all(isinstance(item, int) for item in items):
        return ''
    text = ', '.join(map(str, items))
    if info.kind == 'str':
        return f'; write it as {text}' if len(items) == 1 else ''
    return f'; write it as [{text}]'


def _expected(info: SettingInfo) -> str:
    if info.choices:
        return 'one of ' + ', '.join(info.choices)
    if info.minimum is not None and info.maximum is not None:
        return f'{info.kind} from {info.minimum:g} to {info.maximum:g}'
    if info.minimum is not None:
        return f'{info.kind} of at least {info.minimum:g}'
    return info.kind
