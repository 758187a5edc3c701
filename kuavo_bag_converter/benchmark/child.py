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
The program of a measured process: prepare, wait for the baseline to be taken, work, report.

It is run by path, also by a Python that does not have this package, so it imports the standard
library alone::

    python child.py JOB SPECIFICATION RESULT

``JOB`` is a module or the path of a Python file. Its ``prepare(specification)`` imports all that
it needs and returns the work: a function without arguments that returns what JSON can hold. The
process says on standard output when it is prepared and waits for a line on standard input.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
import resource
import runpy
import sys
import time
from typing import Any

EXIT_FAILED = 1


def main(job: str, specification: str, result: str) -> int:
    """Run one job and write its result with the time that it took."""
    protocol = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # What libraries print belongs to the log.
    if job.endswith('.py'):
        functions = runpy.run_path(job)
    else:
        importlib.import_module('kuavo_bag_converter.support.process').set_defaults()
        functions = vars(importlib.import_module(job))
    work = functions['prepare'](json.loads(Path(specification).read_text(encoding='utf-8')))
    protocol.write('prepared\n')
    protocol.flush()
    sys.stdin.readline()
    wall, processor = time.perf_counter(), processor_seconds()
    try:
        outcome: dict[str, Any] = work()
    except Exception as error:  # noqa: BLE001  # told to the process that measures
        print(f'{type(error).__name__}: {error}', file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    measured = {
        'wall_s': time.perf_counter() - wall,
        'cpu_s': processor_seconds() - processor,
        'outcome': outcome,
    }
    Path(result).write_text(json.dumps(measured), encoding='utf-8')
    return 0


def processor_seconds() -> float:
    """Return the user and system time of this process and of its finished children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == '__main__':
    # The folder of this file must not shadow other modules; the package itself must be found.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    if sys.argv[1].endswith('.py'):
        del sys.path[0]
    sys.exit(main(*sys.argv[1:]))
