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

"""``ros2 bag to_lerobot``: the command ``convert`` as a verb of ros2bag."""

from __future__ import annotations

import argparse

from kuavo_bag_converter.cli.main import add_convert_arguments, convert, exit_code_of
from kuavo_bag_converter.support.process import packages_needed, set_defaults
from ros2bag.verb import VerbExtension


class ToLerobotVerb(VerbExtension):  # type: ignore[misc] # ros2bag has no types
    """Convert bags to a LeRobot dataset."""

    def add_arguments(self, parser: argparse.ArgumentParser, _cli_name: str) -> None:
        """Add the arguments of ``convert``."""
        add_convert_arguments(parser)

    def main(self, *, args: argparse.Namespace) -> int:
        """Convert, and return the exit code of ``convert``."""
        set_defaults()
        with packages_needed():
            return exit_code_of(lambda: convert(args))
