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
A robot that publishes joints and pictures, and a recorder of what is published, as processes.

``python ros_recording.py publish`` publishes until it is ended. ``python ros_recording.py record
FOLDER`` writes what it receives as ``ros2 bag record`` does: into a file without an end, until it
is interrupted; then the metadata.yaml, then the end of the file.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import signal
import sys

from bag_files import metadata_yaml
from kuavo_bag_converter.sample.barcode import draw_frame_number
from mcap.writer import Writer
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions
from ros_messages import ROS2
from sensor_msgs.msg import Image, JointState

JOINTS, CAMERA = '/joint_states', '/camera/image_raw'
TOPICS = {JOINTS: JointState, CAMERA: Image}
PROFILE = f"""\
robot_type: arm
fps: 10
task: Count
align: {{timeline: header}}
clock: {{from: {{topic: {CAMERA}}}, fps: 10, timeline: header, end_trim: none}}
features:
  observation.state:
    parts: [{{from: {{topic: {JOINTS}, field: position}}, names: [number]}}]
  observation.images.camera:
    camera: {{from: {{topic: {CAMERA}}}, size: {{width: 160, height: 120}}}}
"""
"""Of the dataset that comes of it."""
_HZ = 10


def publish():
    """Publish a count as the position of a joint and as a picture, with the same stamp."""
    node = rclpy.create_node('robot')
    publishers = {topic: node.create_publisher(kind, topic, 10) for topic, kind in TOPICS.items()}
    count = 0

    def send():
        nonlocal count
        if not all(one.get_subscription_count() for one in publishers.values()):
            return
        stamp = node.get_clock().now().to_msg()
        joints = JointState(name=['arm'], position=[float(count)])
        picture = np.zeros((120, 160, 3), np.uint8)
        draw_frame_number(picture, 'head_cam_h', count, (20, 230))
        image = Image(height=120, width=160, encoding='rgb8', step=480, data=picture.tobytes())
        for topic, message in ((JOINTS, joints), (CAMERA, image)):
            message.header.stamp = stamp
            publishers[topic].publish(message)
        count += 1

    node.create_timer(1 / _HZ, send)
    rclpy.spin(node)


def record(folder):
    """Record until interrupted; print what has been received."""
    node = rclpy.create_node('recorder')
    counts = Counter()
    folder.mkdir()
    file = folder / f'{folder.name}_0.mcap'
    with file.open('wb') as stream:
        writer = Writer(stream, chunk_size=1)
        writer.start('ros2')

        def subscribe(topic, kind):
            msgtype = f'sensor_msgs/msg/{kind.__name__}'
            definition, _ = ROS2.generate_msgdef(msgtype)
            schema = writer.register_schema(msgtype, 'ros2msg', definition.encode())
            channel = writer.register_channel(topic, 'cdr', schema)

            def on_message(data):
                counts[topic] += 1
                now = node.get_clock().now().nanoseconds
                writer.add_message(channel, now, data, now)
                stream.flush()
                sys.stdout.write(f'{min(counts[name] for name in TOPICS)}\n')
                sys.stdout.flush()

            node.create_subscription(kind, topic, on_message, 10, raw=True)

        for topic, kind in TOPICS.items():
            subscribe(topic, kind)
        try:
            while True:
                rclpy.spin_once(node, timeout_sec=0.1)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        of_topics = {
            (topic, f'sensor_msgs/msg/{kind.__name__}'): counts[topic]
            for topic, kind in TOPICS.items()
        }
        files = {file.name: sum(counts.values())}
        text = metadata_yaml(9, of_topics, files, 'mcap')
        (folder / 'metadata.yaml').write_text(text)
        writer.finish()


if __name__ == '__main__':
    # A second signal, as a launch sends it, must not end what the first one has begun.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    if sys.argv[1] == 'publish':
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        publish()
    else:
        # It is ignored where the tests run in the background of a shell.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        record(Path(sys.argv[2]))
