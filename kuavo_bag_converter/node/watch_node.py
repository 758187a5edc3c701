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
``watch_node``: converts recordings as they are completed, as the command ``watch`` does.

Parameters are the settings (:mod:`kuavo_bag_converter.settings`), of which ``bags`` are the
folders, the options of :mod:`kuavo_bag_converter.jobs.watch`, and ``events_topics``.
Progress is published on ``/diagnostics``; ``~/cancel`` (``std_srvs/Trigger``), Ctrl-C and SIGTERM
end the node, which with ``finish`` first converts what is being recorded; a second signal ends the
process. The exit code is the command's.
"""

from __future__ import annotations

import sys

from kuavo_bag_converter.support.process import cancel_on_signals, packages_needed, set_defaults


def main() -> int:
    """Run the node and return the exit code."""
    set_defaults()
    # What is imported only now takes a second, in which Ctrl-C counts, too.
    with cancel_on_signals() as stop, packages_needed():
        from kuavo_bag_converter.node.watching import run

        return run(stop)


if __name__ == '__main__':
    sys.exit(main())
