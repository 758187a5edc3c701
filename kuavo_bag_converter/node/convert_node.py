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
``convert_node``: one conversion as a ROS 2 node that ends when the conversion has ended.

Parameters are the settings (:mod:`kuavo_bag_converter.settings`), read once at the start. Progress
is published on ``/diagnostics`` (``diagnostic_msgs/DiagnosticArray``) once a second and at the
end; ``~/cancel`` (``std_srvs/Trigger``), Ctrl-C and SIGTERM stop the run, a second signal ends the
process. The exit code is the command's: 0 done, 1 a bag failed or the run was stopped,
2 wrong use.
"""

from __future__ import annotations

import sys

from kuavo_bag_converter.support.process import cancel_on_signals, packages_needed, set_defaults


def main() -> int:
    """Run the node and return the exit code."""
    set_defaults()
    # What is imported only now takes a second, in which Ctrl-C counts, too.
    with cancel_on_signals() as cancel, packages_needed():
        from kuavo_bag_converter.node.conversion import run

        return run(cancel)


if __name__ == '__main__':
    sys.exit(main())
