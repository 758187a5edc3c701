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
Launch tests of ``convert.launch.py``, which ``launch_test`` runs; ``test_launch.py`` starts it.

BAG and OUTPUT are in the environment. The first conversion ends by itself; the second is ended by
the launch, as by Ctrl-C, when it has begun.
"""

import os
from pathlib import Path
import unittest

from launch import LaunchDescription
from launch.actions import ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing import asserts, parametrize, post_shutdown_test
from launch_testing.actions import ReadyToTest

FILE = Path(__file__).resolve().parent.parent / 'launch' / 'convert.launch.py'
OUTPUT = Path(os.environ['OUTPUT'])
NODE = 'convert_node'
TO_THE_END, ENDED_EARLY = 'to the end', 'ended by the launch'


@parametrize('how', [TO_THE_END, ENDED_EARLY])
def generate_test_description(how):
    arguments = {
        'bags': f'["{os.environ["BAG"]}"]',
        'output': str(OUTPUT / how),
        'sample_drop': '0',
        # One frame after the other, so that the second is at work when it is told to end.
        'chunk_size': '1',
        'shutdown_on_exit': 'false',
    }
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(FILE)), launch_arguments=arguments.items()
            ),
            # Else the launch ends with the first, before this does.
            ExecuteProcess(cmd=['sleep', '120']),
            ReadyToTest(),
        ]
    )


class WhileItRuns(unittest.TestCase):
    """Says when the launch may end."""

    def test_it_says_what_it_does(self, proc_info, proc_output, how):
        proc_output.assertWaitFor('20 frames in 1 episode', timeout=60)
        if how == TO_THE_END:
            proc_info.assertWaitForShutdown(NODE, timeout=60)
            proc_output.assertWaitFor('converted: 20 frames')


@post_shutdown_test()
class Afterwards(unittest.TestCase):
    """The processes have ended."""

    def test_the_exit_code_and_the_dataset_agree(self, proc_info, how):
        finished = how == TO_THE_END
        asserts.assertExitCodes(proc_info, [0 if finished else 1], NODE)
        assert (OUTPUT / how / 'meta/info.json').is_file() == finished
        assert (OUTPUT / how).exists() == finished
