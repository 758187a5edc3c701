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

"""What the original converter is configured with, under its names."""

from __future__ import annotations

from dataclasses import dataclass

from kuavo_bag_converter.settings import setting

PLATFORMS = ('4pro', '5w', '5')
END_EFFECTORS = ('leju_claw', 'qiangnao', 'rq2f85', 'sg100', 'linker_hand')
EXTRA_CAMERAS = ('head_cam_l', 'head_cam_r')


@dataclass(frozen=True)
class KuavoOptions:
    """The settings of the robot ``kuavo``."""

    platform_type: str = setting(
        'auto',
        'Robot: 4pro (28 joints), 5w (20 joints), 5 (waist joint, 29); "auto" goes by the joints '
        'of the first bag.',
        choices=('auto', *PLATFORMS),
        yaml='robot_type, and length and select of the parts',
    )
    eef_type: str = setting(
        'auto',
        'End effector; "auto" takes the one whose topics the first bag has. revo2 is recorded as '
        'qiangnao is.',
        choices=('auto', *END_EFFECTORS, 'revo2'),
        yaml='the parts',
    )
    which_arm: str = setting(
        'both',
        'Arms, end effectors and wrist cameras to use.',
        choices=('left', 'right', 'both'),
        yaml='the parts and cameras',
    )
    only_arm: bool = setting(
        True,
        'Arms only; false adds base motion (x, y, yaw and the gap flag) to the action.',
        yaml='the parts of action',
    )
    wholebody_5w: bool = setting(
        False,
        'Of a 5w, the four joints of the lower body too: in the state, and in the action by '
        '/lb_leg_traj.',
        name='5w_wholebody',
        yaml='the parts',
    )
    base_move_5w: bool = setting(
        False,
        'Of a 5w, the velocity of the base (/cmd_vel: x, y, yaw) at the end of the action.',
        name='5w_base_move',
        yaml='the parts of action',
    )
    use_head: bool = setting(
        False,
        'Joints of the head too: in the state, and in the action by /robot_head_motion_data.',
        yaml='the parts',
    )
    use_tactile: bool = setting(
        False,
        'Normal forces at the finger tips (/dexhand/touch_state) as observation.tactile.',
        yaml='the features',
    )
    arm_command: str = setting(
        'synced',
        'Arm command to prefer where a bag has both: synced (/kuavo_arm_traj_synced) or plain '
        '(/kuavo_arm_traj).',
        choices=('synced', 'plain'),
        yaml='the order of the sources',
    )
    missing_action: str = setting(
        'fail',
        'A bag without a command of arms, hands, lower body or head: fail, or let the state stand '
        'in, which is reported.',
        choices=('fail', 'state'),
        yaml='stand_in of the parts',
    )
    extra_cameras: tuple[str, ...] = setting(
        (),
        'Cameras besides the head and the wrists: head_cam_l, head_cam_r (of a stereo head).',
        choices=EXTRA_CAMERAS,
        yaml='the cameras',
    )
    use_depth: str = setting(
        'auto',
        'Convert the depth cameras too: true, false, or "auto", where the first bag has any.',
        choices=('auto', 'true', 'false'),
        yaml='the cameras',
    )
    depth_range: tuple[int, ...] = setting(
        (0, 1500),
        'Depth is clipped to this range, [min, max] in mm.',
        minimum=0,
        yaml='depth_range of the cameras',
    )
    depth_coding: str = setting(
        'original',
        'How depth is stored: original (8 bit video, stretched frame by frame as the original '
        'does), range8 (8 bit video over depth_range), metric12 (12 bit video of LeRobot 0.6 or '
        'later, exact to 2 mm), image16 (mm, without loss, in the table), copy (the 16 bit PNGs '
        'of the bag as they are, in the table).',
        choices=('original', 'range8', 'metric12', 'image16', 'copy'),
        former={'minmax8': 'original'},
        yaml='depth of the cameras',
    )
    dex_dof_needed: int = setting(
        1,
        'Joints of each dexterous hand to use: up to 6 of qiangnao, 11 of sg100.',
        minimum=1,
        maximum=32,
        yaml='select of the parts',
    )
    dex_dof_offset: int = setting(
        0,
        'The first joint of each dexterous hand to use, from 0.',
        minimum=0,
        maximum=31,
        yaml='select of the parts',
    )
    is_binary: bool = setting(
        False, 'Reduce the end effector to open (0) or closed (1).', yaml='threshold of the parts'
    )
    delta_action: bool = setting(
        False,
        'Write the action as its difference from the state at the frame.',
        yaml='minus of action',
    )
    relative_start: bool = setting(
        False,
        'Write joints as their difference from the first frame of the episode.',
        yaml='relative_to_start of the parts',
    )
    resize_width: int = setting(
        640,
        'Width of the pictures, pixels.',
        name='resize.width',
        minimum=16,
        maximum=8192,
        yaml='size of the cameras',
    )
    resize_height: int = setting(
        480,
        'Height of the pictures, pixels.',
        name='resize.height',
        minimum=16,
        maximum=8192,
        yaml='size of the cameras',
    )
    train_hz: int = setting(
        10, 'Frames per second of the dataset.', minimum=1, maximum=1000, yaml='fps'
    )
    main_timeline: str = setting(
        'head_cam_h',
        'Camera that sets the frame clock; most_messages takes the one with most in the bag.',
        choices=('head_cam_h', 'wrist_cam_l', 'wrist_cam_r', 'most_messages'),
        yaml='clock.from',
    )
    main_timeline_fps: int = setting(
        30, 'Nominal rate of that camera, Hz.', minimum=1, maximum=1000, yaml='clock.fps'
    )
    sample_drop: int = setting(
        10,
        'Pictures of the main camera to drop at each end of a bag.',
        minimum=0,
        yaml='clock.drop',
    )
    decimation: str = setting(
        'auto',
        'How the main camera becomes the frame clock: jump (every n-th picture, as the original), '
        'time (an even clock), auto (jump where that is even to half a frame, else time).',
        choices=('auto', 'jump', 'time'),
        yaml='clock.decimation',
    )
    end_trim: str = setting(
        'min_end',
        'Frames end before the first (min_end) or the last (max_end) topic ends, or not (none).',
        choices=('min_end', 'max_end', 'none'),
        yaml='clock.end_trim',
    )
    absurd_stamp_s: float = setting(
        60.0,
        'Header stamps further than this from their receive stamp are not used, nor what a longer '
        'silence of all topics (600 s at least) parts from the recording, s; 0 uses all.',
        minimum=0.0,
        yaml='clock.absurd_stamp_s',
    )
    on_step_back: str = setting(
        'split',
        'Where a clock was set back: end the episode (split), or refuse the bag (fail).',
        choices=('split', 'fail'),
        yaml='clock.on_step_back',
    )
    on_pause: str = setting(
        'split',
        'Where all topics are silent: end the episode (split), or make frames as anywhere else '
        '(keep), as the original.',
        choices=('split', 'keep'),
        yaml='clock.on_pause',
    )
    late_eef: str = setting(
        'nearest',
        'End effector before its first message: nearest (that message) or zeros_then_hold.',
        choices=('nearest', 'zeros_then_hold'),
        yaml='align.zeros_before_first of the parts',
    )
    task_description: str = setting('Pick and Place', 'Task of every episode.', yaml='task')
    align_strategy: str = setting(
        'nearest',
        'Which message serves a frame; linear is for joints, pictures then use nearest.',
        name='align.strategy',
        choices=('nearest', 'hold', 'linear'),
        yaml='align.strategy',
    )
    align_timeline: str = setting(
        'bag',
        'Stamps to align on: when a message was received (bag) or taken (header).',
        name='align.timeline',
        choices=('bag', 'header'),
        yaml='align.timeline and clock.timeline',
    )
    align_tolerance_ms: float = setting(
        0.0,
        'Largest distance between a frame and its message, ms; 0 is no limit.',
        name='align.tolerance_ms',
        minimum=0.0,
        yaml='align.tolerance_ms',
    )
    align_on_gap: str = setting(
        'auto',
        'Frames beyond the tolerance: keep, hold (last message before), drop (keep the longest '
        'piece), split (new episode after the hole), fail; auto is split with a tolerance, else '
        'keep.',
        name='align.on_gap',
        choices=('auto', 'keep', 'hold', 'drop', 'split', 'fail'),
        yaml='align.on_gap',
    )
