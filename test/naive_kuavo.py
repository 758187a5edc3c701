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
State and action of a Kuavo robot by the original's rules, from what is true in a sample.

Which messages serve a frame is taken from the dataset's record (``test_alignment.py`` is about
that); what becomes of their values is stated here once more.
"""

from __future__ import annotations

from itertools import pairwise

from conversions import alignment, report
import numpy as np

ARM_START = {'4pro': 12, '5w': 4, '5': 13}
FIELDS = {
    '/sensors_data_raw': ('joint_data.joint_q',),
    '/kuavo_arm_traj': ('position',),
    '/kuavo_arm_traj_synced': ('position',),
    '/leju_claw_state': ('data.position',),
    '/leju_claw_command': ('data.position',),
    '/dexhand/state': ('position',),
    '/gripper/state': ('position',),
    '/gripper/command': ('position',),
    '/cmd_pose_world_synced': ('twist.linear.x', 'twist.linear.y', 'twist.angular.z'),
}
END_EFFECTORS = {
    'claws': (('/leju_claw_state', 100, 50), ('/leju_claw_command', 100, 50), 1),
    'hands': (('/dexhand/state', 100, 50), ('/control_robot_hand_position', 100, 50), 6),
    'grippers': (('/gripper/state', 0.8, 0.4), ('/gripper/command', 255, 70), 1),
}


class KuavoRows:
    """What a dataset of one sample must hold."""

    def __init__(self, root, truth, kind, settings):
        self._truth = truth
        self._settings = settings
        self._kind = kind
        self._stored = alignment(root)
        self._tracks = report(root)['bags'][0]['plan']['tracks']
        self._episodes = self._stored['episode']

    def state(self):
        """Return ``observation.state``, shape (frames, n)."""
        return self._shown(self._state())

    def action(self):
        """Return ``action``, shape (frames, n)."""
        columns = []
        state = self._state()
        for column in self._action():
            columns.append(column)
            if self._settings['delta_action']:
                columns[-1] = _difference(column, state[len(columns) - 1])
        if not self._settings['only_arm']:
            base, _ = self._read('/cmd_pose_world_synced')
            columns += [(base[:, axis], np.zeros(len(base))) for axis in range(3)]
            columns.append((self._in_gap(), np.zeros(len(base))))
        return self._shown(columns)

    def _shown(self, columns):
        return np.stack(
            [np.where(fill == 2, 999.0, np.where(fill == 1, 0.0, v)) for v, fill in columns],
            axis=1,
        )

    def _state(self):
        start = ARM_START[self._settings['platform_type']]
        return self._columns('/sensors_data_raw', start, END_EFFECTORS[self._kind][0], 1.0)

    def _action(self):
        arms = '/kuavo_arm_traj_synced'
        if arms not in {track['topic'] for track in self._tracks}:
            arms = '/kuavo_arm_traj'
        return self._columns(arms, 0, END_EFFECTORS[self._kind][1], np.pi / 180)

    def _columns(self, arms, start, end_effector, factor):
        """Return values and fills of each element: by side, the arm, then its end effector."""
        settings = self._settings
        topic, full, threshold = end_effector
        joints, joints_fill = self._read(arms)
        hand, hand_fill = self._read(topic)
        width = END_EFFECTORS[self._kind][2]
        used = settings['dex_dof_needed'] if self._kind == 'hands' else 1
        columns = []
        for number, side in enumerate(('left', 'right')):
            if settings['which_arm'] not in (side, 'both'):
                continue
            for joint in range(start + 7 * number, start + 7 * number + 7):
                values = joints[:, joint] * factor
                if settings['relative_start']:
                    values = self._relative(values, joints_fill)
                columns.append((values, joints_fill))
            for finger in range(width * number, width * number + used):
                values = hand[:, finger]
                values = values > threshold if settings['is_binary'] else values / full
                columns.append((values.astype(float), hand_fill))
        return columns

    def _read(self, topic):
        """Return the values that serve the frames, shape (frames, n), and what is filled in."""
        number = next(i for i, track in enumerate(self._tracks) if track['topic'] == topic)
        track = {
            key: self._stored[f'track.{number}.{key}']
            for key in ('first', 'second', 'weight', 'fill')
        }
        values = self._values(topic)
        weight = track['weight'][:, None]
        mixed = (1 - weight) * values[track['first']] + weight * values[track['second']]
        return mixed, track['fill']

    def _values(self, topic):
        known = self._truth.topics[topic]
        if topic == '/control_robot_hand_position':
            count = np.arange(len(known.time))[:, None] + np.arange(6) * 7
            return np.concatenate([count % 101, (count % 101 + 50) % 101], axis=1)
        parts = [known.ramps[field].at(known.time) for field in FIELDS[topic]]
        return np.concatenate(parts, axis=1)

    def _relative(self, values, fill):
        result = values.copy()
        for episode in np.unique(self._episodes):
            mine = np.flatnonzero((self._episodes == episode) & (fill == 0))
            if len(mine):
                result[mine] -= values[mine[0]]
        return result

    def _in_gap(self):
        """Tell which frames lie between two arm commands more than 1.5 frames apart."""
        known = self._truth.topics['/kuavo_arm_traj']
        frames = self._stored['frame_stamp_ns']
        by_header = self._settings['align__timeline'] == 'header'
        stamps = np.sort(known.header if by_header else known.receive)
        far = 1.5e9 / self._settings['train_hz']
        flags = [any(a < t < b for a, b in pairwise(stamps) if b - a > far) for t in frames]
        return np.array(flags, dtype=float)


def _difference(column, base):
    (values, fill), (subtracted, base_fill) = column, base
    return values - subtracted, np.maximum(fill, base_fill)
