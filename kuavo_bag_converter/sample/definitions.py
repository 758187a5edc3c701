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
Message definitions of the robot, with the ROS 1 md5 sums that its recordings carry.

The field lists are those of ``kuavo_msgs`` in LejuRobotics/kuavo-ros-opensource (the ``Rq2f85``
types of its simulator branch) and of the two camera drivers. Comments, blanks and blank lines are
there because the definitions in recordings have them too.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, TypeAlias

from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore

Ros: TypeAlias = Literal[1, 2]
"""Generation of ROS: its wire format and its standard messages."""

_SEPARATOR = '=' * 80 + '\n'
_CONSTANT = re.compile(r'^(\w+)\s+(\w+)\s*=\s*(-?\d+)[ \t]*$', re.MULTILINE)
_ROS2_NAMES = {'time': 'builtin_interfaces/Time', 'Header': 'std_msgs/Header'}
_LAST_JOINT_FIELD = {'main': 'joint_torque', 'dev': 'joint_torque', '2025-04': 'joint_current'}

# The fields that its drivers use; how the robot writes them out has not been published.
_SG100 = """\
std_msgs/Header header
float64[] left_hand_positions   # 11, rad
float64[] right_hand_positions
uint8 control_mode   # 7: position, 9: impedance
uint16 left_enable_mask
uint16 right_enable_mask
"""

_TEXTS = {
    'kuavo_msgs/msg/sensorsData': """\
std_msgs/Header header
time sensor_time
kuavo_msgs/jointData joint_data
kuavo_msgs/imuData imu_data
kuavo_msgs/endEffectorData end_effector_data

""",
    'kuavo_msgs/msg/jointData': """\
float64[] joint_q   # 关节位置 (rad)
float64[] joint_v
float64[] joint_vd
float64[] joint_torque

""",
    'kuavo_msgs/msg/imuData': """\
geometry_msgs/Vector3 gyro    # 角速度 (rad/s)
geometry_msgs/Vector3 acc
geometry_msgs/Vector3 free_acc
geometry_msgs/Quaternion quat

""",
    'kuavo_msgs/msg/endEffectorData': """\
string[] name
float64[] position
float64[] velocity
float64[] effort
""",
    'kuavo_msgs/msg/FTsensorData': """\
float64[] Fx
float64[] Fy
float64[] Fz
float64[] Mx
float64[] My
float64[] Mz
""",
    'kuavo_msgs/msg/jointCmd': """\
std_msgs/Header header
float64[] joint_q
float64[] joint_v
float64[] tau
float64[] tau_max
float64[] tau_ratio
float64[] joint_kp
float64[] joint_kd
int32[] control_modes

""",
    'kuavo_msgs/msg/lejuClawState': """\
std_msgs/Header header

int8 kError = -1                
int8 kUnknown = 0              
int8 kMoving = 1              
int8 kReached = 2            
int8 kGrabbed = 3         

int8[] state # [left, right]
kuavo_msgs/endEffectorData data
""",  # noqa: W291 (blanks after the values are the robot's)
    'kuavo_msgs/msg/lejuClawCommand': """\
# position: 0 ~ 100
# velocity: 0 ~ 100, 50.0 by default
#
# data:
#   - name: ['left_claw', 'right_claw']

std_msgs/Header header
kuavo_msgs/endEffectorData data
""",
    'kuavo_msgs/msg/robotHandPosition': """\
Header header
uint8[] left_hand_position   # 6, 0 ~ 100
uint8[] right_hand_position
""",
    'kuavo_msgs/msg/touchSensorStatus': """\
uint16 normal_force1  # 法向力1
uint16 normal_force2  # 法向力2
uint16 normal_force3  # 法向力3
uint16 tangential_force1  # 切向力1
uint16 tangential_force2  # 切向力2
uint16 tangential_force3  # 切向力3
uint16 tangential_direction1  # 切向力方向1
uint16 tangential_direction2  # 切向力方向2
uint16 tangential_direction3  # 切向力方向3
uint32 self_proximity1  # 自电容接近传感器1
uint32 self_proximity2  # 自电容接近传感器2
uint32 mutual_proximity  # 互电容接近传感器
uint16 status  # 传感器状态

""",
    'kuavo_msgs/msg/dexhandTouchState': """\
std_msgs/Header header
kuavo_msgs/touchSensorStatus[5] left_hand
kuavo_msgs/touchSensorStatus[5] right_hand

""",
    'kuavo_msgs/msg/SG100HandState': _SG100,
    'kuavo_msgs/msg/SG100HandCommand': _SG100,
    'kuavo_msgs/msg/robotHeadMotionData': """\
float64[] joint_data # [yaw, pitch]
""",
    'kuavo_msgs/msg/Rq2f85ClawState': """\
std_msgs/Header header
float64 left_position      # 0 ~ 0.8
float64 left_velocity
float64 left_force
float64 right_position
float64 right_velocity
float64 right_force
""",
    'kuavo_msgs/msg/Rq2f85ClawCmd': """\
std_msgs/Header header
float64 left_cmd        # 0 ~ 255
float64 right_cmd
""",
    # Of a Roban: the fields that its DDS types have; how ROS writes them has not been published.
    'leju_msgs/msg/JointState': """\
std_msgs/Header header
float64[] q
float64[] v
float64[] vd
float64[] tau
""",
    'leju_msgs/msg/HandState': """\
std_msgs/Header header
bool left_valid
bool right_valid
uint32 left_sample_age_ms
uint32 right_sample_age_ms
float64[] position
float64[] velocity
float64[] current
uint8[] state
""",
    'leju_msgs/msg/Float64Array': """\
std_msgs/Header header
float64[] data
""",
    'leju_msgs/msg/HeftReference': """\
std_msgs/Header header
uint32 schema_version
string robot_version
uint64 seq
uint32 calibration_epoch
int64 capture_timestamp_ms
bool valid
bool calibrated
float64[3] root_pos
float64[4] root_quat   # w, x, y, z
float64[] q
float64[] qd
""",
    'orbbec_camera/msg/Metadata': """\
std_msgs/Header header
string json_data

""",
    'realsense2_camera/msg/Metadata': """\
std_msgs/Header header
string json_data
""",
    'tf2_msgs/msg/TFMessage': """\
geometry_msgs/TransformStamped[] transforms
""",
}


class SampleDefinition(NamedTuple):
    """A definition as a recording embeds it."""

    text: str
    """With all dependencies."""
    digest: str
    """ROS 1: md5; ROS 2: REP 2011 type hash."""


class SampleDefinitions:
    """The types of one generation of ROS, and those of the robot in it."""

    def __init__(self, ros: Ros, sdk: str) -> None:
        self.store: Typestore = get_typestore(
            Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_HUMBLE
        )
        self._ros = ros
        self._texts = _texts(ros, sdk)
        types: dict[str, Any] = {}
        for msgtype, text in self._texts.items():
            # The library takes constants with lower-case names for fields.
            parsed = get_types_from_msg(_CONSTANT.sub('', text), msgtype)
            constants = [(name, kind, int(value)) for kind, name, value in _CONSTANT.findall(text)]
            types[msgtype] = (constants, parsed[msgtype][1])
        self.store.register(types)

    def __getitem__(self, msgtype: str) -> SampleDefinition:
        """Return what a recording embeds for a type, named as in ``sensor_msgs/msg/Image``."""
        text, digest = self.store.generate_msgdef(msgtype, self._ros)
        own, *others = text.split(_SEPARATOR)
        sections = [self._texts.get(msgtype, own)]
        for section in others:
            name, body = section.split('\n', 1)
            dependency = name.removeprefix('MSG: ').replace('/', '/msg/')
            sections.append(f'{name}\n{self._texts.get(dependency, body)}')
        if self._ros == 2:
            digest = self.store.hash_rihs01(msgtype)
        return SampleDefinition(_SEPARATOR.join(sections), digest)


def _texts(ros: Ros, sdk: str) -> dict[str, str]:
    texts = dict(_TEXTS)
    joints = 'kuavo_msgs/msg/jointData'
    texts[joints] = texts[joints].replace('joint_torque', _LAST_JOINT_FIELD[sdk])
    if sdk == 'dev':
        texts['kuavo_msgs/msg/sensorsData'] += 'kuavo_msgs/FTsensorData FTsensor_data\n'
    if ros == 2:
        del texts['tf2_msgs/msg/TFMessage']
        for old, new in _ROS2_NAMES.items():
            pattern = re.compile(rf'^{old} ', re.MULTILINE)
            texts = {name: pattern.sub(f'{new} ', text) for name, text in texts.items()}
    return texts
