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

"""The topics that a recording has besides those that become a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kuavo_bag_converter.sample.messages import Build, Messages, Moment, Topic
from kuavo_bag_converter.sample.robot import (
    ARM_COMMAND,
    ARM_NAMES,
    degrees,
    head_ranges,
    SampleTimeline,
)
from kuavo_bag_converter.sample.stamps import PublishTiming
import numpy as np


def extras(timeline: SampleTimeline) -> Iterator[Topic]:
    """Yield transforms, calibration and the motion of the head, most of them without a header."""
    once = PublishTiming(0)
    tf_message = 'tf2_msgs/msg/TFMessage'
    array = 'std_msgs/msg/Float32MultiArray'
    head = timeline.sweep(degrees(head_ranges()), ARM_COMMAND)

    def build_head(messages: Messages, moment: Moment) -> Any:
        return messages.new('robotHeadMotionData', joint_data=head.at(moment.time))

    yield Topic(
        '/tf', tf_message, PublishTiming(50), _transform('odom', 'base_link'), has_header=False
    )
    yield Topic(
        '/tf_static',
        tf_message,
        once,
        _transform('base_link', 'camera_base'),
        has_header=False,
        latched=True,
    )
    for name in ('/kuavo/arm_zeros', '/kuavo/offset'):
        yield Topic(name, array, once, _calibration, has_header=False, latched=True)
    yield Topic(
        '/robot_head_motion_data',
        'kuavo_msgs/msg/robotHeadMotionData',
        PublishTiming(10, jitter_ms=8.0),
        build_head,
        has_header=False,
        ramps={'joint_data': head},
    )


def _transform(parent: str, child: str) -> Build:
    def build(messages: Messages, moment: Moment) -> Any:
        transform = messages.new(
            'geometry_msgs/msg/Transform',
            translation=messages.vector3(z=0.8),
            rotation=messages.rotation(0.0),
        )
        stamped = messages.new(
            'geometry_msgs/msg/TransformStamped',
            header=messages.header(moment, parent),
            child_frame_id=child,
            transform=transform,
        )
        return messages.new('tf2_msgs/msg/TFMessage', transforms=[stamped])

    return build


def _calibration(messages: Messages, _: Moment) -> Any:
    layout = messages.new('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
    data = np.zeros(len(ARM_NAMES), np.float32)
    return messages.new('std_msgs/msg/Float32MultiArray', layout=layout, data=data)
