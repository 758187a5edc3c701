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

"""``python -m kuavo_bag_converter``."""

from __future__ import annotations

import os
import sys

from kuavo_bag_converter.support.process import packages_needed, set_defaults


def main() -> int:
    """Run the command line; see :mod:`kuavo_bag_converter.cli.main`."""
    set_defaults()
    try:
        with packages_needed():
            from kuavo_bag_converter.cli.main import run

            code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        print('error: cancelled', file=sys.stderr)  # noqa: T201
        return 1
    except BrokenPipeError:
        # Whoever reads the output, head for one, has enough of it; nor is there more to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == '__main__':
    sys.exit(main())
