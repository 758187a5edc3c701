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
``convert_server``: a ROS 2 node that converts bags when it is asked to, one goal after the other.

Parameters are the settings (:mod:`kuavo_bag_converter.settings`) that a goal does not give itself,
and ``when_busy``. Goals come by the action ``~/convert`` where ``kuavo_bag_converter_interfaces``
is built, and by the service ``~/submit``; ``~/status``, ``~/cancel`` and ``~/cancel_goal`` go with
it. The first Ctrl-C or SIGTERM cancels the goals and ends the server, with exit code 0; a second
one ends the process at once.
"""

from __future__ import annotations

import sys

from kuavo_bag_converter.support.process import cancel_on_signals, packages_needed, set_defaults


def main() -> int:
    """Run the node and return the exit code."""
    set_defaults()
    # What is imported only now takes a second, in which Ctrl-C counts, too.
    with cancel_on_signals() as cancel, packages_needed():
        from kuavo_bag_converter.node.server import run

        return run(cancel)


if __name__ == '__main__':
    sys.exit(main())
