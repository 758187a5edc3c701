"""Every setting of a conversion: one table for the command line, YAML files and ROS parameters.

A settings file has the form of a ROS 2 parameter file, so that one file serves the node and the
command line::

    /**:
      ros__parameters:
        train_hz: 10
        resize: {width: 640, height: 480}
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import yaml

from kuavo_bag_converter.errors import UsageError

NODE_NAME = 'convert_node'

_KINDS: dict[Any, str] = {
    bool: 'bool',
    int: 'int',
    float: 'float',
    str: 'str',
    tuple[int, ...]: 'int list',
    tuple[str, ...]: 'str list',
}


def _setting(
    default: Any,
    description: str,
    *,
    name: str = '',
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    kuavo: bool = False,
) -> Any:
    metadata = {
        'name': name,
        'description': description,
        'choices': choices,
        'minimum': minimum,
        'maximum': maximum,
        'kuavo': kuavo,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The settings of one run; a field's metadata holds its description, choices and range."""

    bags: tuple[str, ...] = _setting(
        (), 'Bags to convert: files, rosbag2 directories, or folders that hold many of them.'
    )
    output: str = _setting('', 'Folder of the dataset to write; it must not exist yet.')
    profile: str = _setting(
        'kuavo',
        'What a frame is made of: "kuavo" (built from the Kuavo settings) or a YAML profile, by '
        'path or by the name of a shipped one.',
    )
    method: str = _setting(
        'chunked',
        'How to convert; all methods write the same dataset, the others are references.',
        choices=('chunked', 'streaming', 'whole_bag'),
    )

    # Kuavo: what the original converter is configured with, under its names.
    platform_type: str = _setting(
        '4pro',
        'Robot: 4pro (28 joints), 5w (20 joints), 5 (waist joint, 29).',
        choices=('4pro', '5w', '5'),
        kuavo=True,
    )
    eef_type: str = _setting(
        'auto',
        'End effector; "auto" takes the one whose topics the first bag has.',
        choices=('auto', 'leju_claw', 'qiangnao', 'rq2f85'),
        kuavo=True,
    )
    which_arm: str = _setting(
        'both',
        'Arms, end effectors and wrist cameras to use.',
        choices=('left', 'right', 'both'),
        kuavo=True,
    )
    only_arm: bool = _setting(
        True,
        'Arms only; false adds base motion (x, y, yaw and the gap flag) to the action.',
        kuavo=True,
    )
    use_depth: bool = _setting(True, 'Convert the depth cameras too.', kuavo=True)
    depth_range: tuple[int, ...] = _setting(
        (0, 1500), 'Depth is clipped to this range, [min, max] in mm.', minimum=0, kuavo=True
    )
    depth_coding: str = _setting(
        'minmax8',
        'Depth video: minmax8 (8 bit, stretched frame by frame as the original does), range8 '
        '(8 bit over depth_range, scale kept), metric12 (lossless 12 bit, LeRobot 0.6 or later).',
        choices=('minmax8', 'range8', 'metric12'),
        kuavo=True,
    )
    dex_dof_needed: int = _setting(
        1, 'Degrees of freedom of each dexterous hand to use.', minimum=1, maximum=6, kuavo=True
    )
    is_binary: bool = _setting(
        False, 'Reduce the end effector to open (0) or closed (1).', kuavo=True
    )
    delta_action: bool = _setting(
        False, 'Write the action as its difference from the state at the frame.', kuavo=True
    )
    relative_start: bool = _setting(
        False, 'Write joints as their difference from the first frame of the episode.', kuavo=True
    )
    resize_width: int = _setting(
        640, 'Width of the pictures, pixels.', name='resize.width', minimum=16, maximum=8192,
        kuavo=True,
    )  # fmt: skip
    resize_height: int = _setting(
        480, 'Height of the pictures, pixels.', name='resize.height', minimum=16, maximum=8192,
        kuavo=True,
    )  # fmt: skip
    train_hz: int = _setting(
        10, 'Frames per second of the dataset.', minimum=1, maximum=1000, kuavo=True
    )
    main_timeline: str = _setting(
        'head_cam_h',
        'Camera that sets the frame clock; most_messages takes the one with most in the bag.',
        choices=('head_cam_h', 'wrist_cam_l', 'wrist_cam_r', 'most_messages'),
        kuavo=True,
    )
    main_timeline_fps: int = _setting(
        30, 'Nominal rate of that camera, Hz.', minimum=1, maximum=1000, kuavo=True
    )
    sample_drop: int = _setting(
        10, 'Pictures of the main camera to drop at each end of a bag.', minimum=0, kuavo=True
    )
    decimation: str = _setting(
        'auto',
        'How the main camera becomes the frame clock: jump (every n-th picture, as the original), '
        'time (an even clock), auto (jump where that is even to half a frame, else time).',
        choices=('auto', 'jump', 'time'),
        kuavo=True,
    )
    end_trim: str = _setting(
        'min_end',
        'Frames end before the first (min_end) or the last (max_end) topic ends, or not (none).',
        choices=('min_end', 'max_end', 'none'),
        kuavo=True,
    )
    absurd_stamp_s: float = _setting(
        60.0,
        'Header stamps further than this from their receive stamp are not used, nor what a longer '
        'silence of all topics (600 s at least) parts from the recording, s; 0 uses all.',
        minimum=0.0,
        kuavo=True,
    )
    late_eef: str = _setting(
        'nearest',
        'End effector before its first message: nearest (that message) or zeros_then_hold.',
        choices=('nearest', 'zeros_then_hold'),
        kuavo=True,
    )
    task_description: str = _setting('Pick and Place', 'Task of every episode.', kuavo=True)
    align_strategy: str = _setting(
        'nearest',
        'Which message serves a frame; linear is for joints, pictures then use nearest.',
        name='align.strategy',
        choices=('nearest', 'hold', 'linear'),
        kuavo=True,
    )
    align_timeline: str = _setting(
        'bag',
        'Stamps to align on: when a message was received (bag) or taken (header).',
        name='align.timeline',
        choices=('bag', 'header'),
        kuavo=True,
    )
    align_tolerance_ms: float = _setting(
        0.0,
        'Largest distance between a frame and its message, ms; 0 is no limit.',
        name='align.tolerance_ms',
        minimum=0.0,
        kuavo=True,
    )
    align_on_gap: str = _setting(
        'auto',
        'Frames beyond the tolerance: keep, hold (last message before), drop (keep the longest '
        'piece), split (new episode after the hole), fail; auto is split with a tolerance, else '
        'keep.',
        name='align.on_gap',
        choices=('auto', 'keep', 'hold', 'drop', 'split', 'fail'),
        kuavo=True,
    )

    num_used: int = _setting(0, 'Bags to use, drawn at random with seed 42; 0 is all.', minimum=0)
    chunk_size: int = _setting(
        100, 'Frames that are buffered at most and flushed together.', minimum=1, maximum=100000
    )
    reader: str = _setting(
        'auto',
        'Bag reader: rosbag2_py (ROS 2), portable (needs no ROS), auto (rosbag2_py where it is).',
        choices=('auto', 'rosbag2_py', 'portable'),
    )
    on_damage: str = _setting(
        'fail',
        'A damaged bag: fail, or salvage what can be read and report what is lost.',
        choices=('fail', 'salvage'),
    )
    on_bad_image: str = _setting(
        'fail',
        'A picture that cannot be decoded: fail the bag, repeat (the picture before it stands in), '
        'drop (keep the longest piece without), split (new episode after it).',
        choices=('fail', 'repeat', 'drop', 'split'),
    )
    on_error: str = _setting(
        'continue',
        'After a bag that cannot be converted: continue with the next, or stop.',
        choices=('continue', 'stop'),
    )
    append: bool = _setting(
        False, 'Add the bags to the dataset that output already is; bags in it are left out.'
    )
    retry_failed: bool = _setting(
        False,
        'Convert the bags that failed when output was made, with the settings it was made with.',
    )
    on_change: str = _setting(
        'fail',
        'An unfinished run beside output that had other settings, or a bag that has changed since: '
        'fail, or redo what differs.',
        choices=('fail', 'redo'),
    )
    check_disk: bool = _setting(
        True, 'Stop before a bag if the disk has less room than the run is estimated to need.'
    )
    stall_timeout_s: float = _setting(
        300.0, 'Give a bag up when no message is finished for so long, s.', minimum=1.0
    )
    msg_path: tuple[str, ...] = _setting(
        (), 'Folders with .msg files, for bags that embed no message definitions.'
    )
    distro: str = _setting(
        'humble', 'ROS 2 distro of standard message types that a bag does not define.'
    )
    lerobot_version: str = _setting(
        'v3.0', 'Dataset format: v3.0 (LeRobot 0.4 or later) or v2.1.', choices=('v3.0', 'v2.1')
    )
    video: str = _setting(
        'encode',
        'encode, or copy the JPEG pictures of the bag into the video as they are.',
        choices=('encode', 'copy'),
    )
    vcodec: str = _setting('h264', 'Video codec.', choices=('h264', 'hevc', 'libsvtav1'))
    crf: int = _setting(
        23, 'Constant rate factor: lower is better and larger.', minimum=0, maximum=63
    )
    preset: str = _setting('superfast', 'Speed preset of the encoder, in its own terms.')
    gop: int = _setting(2, 'Pictures from one key frame to the next.', minimum=1, maximum=600)
    pix_fmt: str = _setting('yuv420p', 'Pixel format of the video.', choices=('yuv420p', 'yuv444p'))
    threads: int = _setting(
        0, 'Threads that decode and encode; 0 is one for each core.', minimum=0, maximum=256
    )
    debug_memory: bool = _setting(
        False,
        'After each chunk, wait until its messages are written and fail if one is still held.',
    )
    memory_limit_mb: int = _setting(0, 'Memory that the run may use, MB; 0 is no limit.', minimum=0)


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
    kuavo: bool
    """Whether the setting shapes the Kuavo profile and means nothing to a YAML profile."""


def _describe() -> dict[str, SettingInfo]:
    hints = get_type_hints(Settings)
    rows = {}
    for item in fields(Settings):
        meta = item.metadata
        name = meta['name'] or item.name
        rows[name] = SettingInfo(
            name,
            item.name,
            _KINDS[hints[item.name]],
            item.default,
            meta['description'],
            meta['choices'],
            meta['minimum'],
            meta['maximum'],
            meta['kuavo'],
        )
    return rows


SETTINGS: Mapping[str, SettingInfo] = _describe()
"""Every setting by its name."""


def settings_from(values: Mapping[str, object], source: str) -> Settings:
    """Check values and make settings of them; what is not given has its default.

    Args:
        values: By setting name; nested mappings are joined with dots.
        source: Where the values come from, for the errors.

    Raises:
        UsageError: A name is unknown or a value is not allowed.

    """
    return updated(Settings(), values, source)


def updated(settings: Settings, values: Mapping[str, object], source: str) -> Settings:
    """Like :func:`settings_from`, on top of other settings.

    Raises:
        UsageError: A name is unknown or a value is not allowed.

    """
    changes: dict[str, Any] = {}
    for name, value in _flat(values):
        info = SETTINGS.get(name)
        if info is None:
            raise UsageError(f'{source}: unknown setting {name!r}{did_you_mean(name, SETTINGS)}')
        changes[info.attribute] = _checked(info, value, source)
    return dataclasses.replace(settings, **changes)


def values_of(settings: Settings) -> dict[str, object]:
    """Return the settings by name, lists as lists: what JSON and YAML can hold."""
    values = {}
    for info in SETTINGS.values():
        value = getattr(settings, info.attribute)
        values[info.name] = list(value) if isinstance(value, tuple) else value
    return values


def read_params_file(path: str) -> dict[str, object]:
    """Read a ROS 2 parameter file: the values for every node, then those for ``convert_node``.

    Raises:
        UsageError: The file cannot be read or has another form.

    """
    try:
        text = Path(path).read_text(encoding='utf-8')
        document = yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f'{path}: cannot read the parameter file: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from error
    values: dict[str, object] = {}
    found = False
    for node in ('/**', NODE_NAME, f'/{NODE_NAME}'):
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
            f'{path}: no parameters for this node: expected "/**:" or "{NODE_NAME}:" with '
            '"ros__parameters:" below it'
        )
    return values


def parse_assignments(assignments: Iterable[str]) -> dict[str, object]:
    """Read ``name=value`` pairs; a value is written as in YAML.

    Raises:
        UsageError: A pair has no ``=`` or its value is not valid YAML.

    """
    values: dict[str, object] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition('=')
        if not equals:
            raise UsageError(f'--set {assignment}: expected name=value')
        try:
            values[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f'--set {assignment}: not a valid value') from error
    return values


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean ...?' where a known name is near, else ''."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean {near[0]!r}?' if near else ''


def _flat(values: Mapping[Any, object], prefix: str = '') -> Iterable[tuple[str, object]]:
    for key, value in values.items():
        name = f'{prefix}{key}'
        if isinstance(value, Mapping) and name not in SETTINGS:
            yield from _flat(value, f'{name}.')
        else:
            yield name, value


def _checked(info: SettingInfo, value: object, source: str) -> object:
    result = _converted(info, value)
    if result is None:
        raise UsageError(f'{source}: {info.name}: expected {_expected(info)}, found {value!r}')
    numbers = result if isinstance(result, tuple) else (result,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        low, high = info.minimum, info.maximum
        if (low is not None and number < low) or (high is not None and not number <= high):
            raise UsageError(f'{source}: {info.name}: expected {_expected(info)}, found {value!r}')
    if info.choices and result not in info.choices:
        near = did_you_mean(str(result), info.choices)
        raise UsageError(
            f'{source}: {info.name}: expected {_expected(info)}, found {value!r}{near}'
        )
    return result


def _converted(info: SettingInfo, value: object) -> Any:
    """Return the value in the setting's own type, or None where it does not fit."""
    if info.kind == 'str' and info.choices and isinstance(value, (int, float)):
        value = str(value)  # YAML reads platform_type: 5 as a number
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


def _expected(info: SettingInfo) -> str:
    if info.choices:
        return 'one of ' + ', '.join(info.choices)
    if info.minimum is not None and info.maximum is not None:
        return f'{info.kind} from {info.minimum:g} to {info.maximum:g}'
    if info.minimum is not None:
        return f'{info.kind} of at least {info.minimum:g}'
    return info.kind
