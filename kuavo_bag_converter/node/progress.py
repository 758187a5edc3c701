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

"""How a conversion goes on: as log messages and as ROS diagnostics."""

from __future__ import annotations

from collections.abc import Callable
import io
import socket
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.jobs.display import Display, print_report
from kuavo_bag_converter.jobs.report import Outcome, Report
from kuavo_bag_converter.support.process import peak_memory_mb
from kuavo_bag_converter.support.texts import visible

_FAILED = ('failed', 'cancelled')


class _LogStream(io.StringIO):
    """A text stream whose lines are log messages."""

    def __init__(self, log: Callable[[str], object]) -> None:
        super().__init__()
        self._log = log
        self._line = ''

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split('\n')
        for line in filter(None, lines):
            self._log(line)
        return len(text)


class Progress(Display):
    """
    Logs what the command prints, and keeps what the diagnostics tell.

    The conversion's thread writes, the node's thread reads.
    """

    def __init__(self, logger: Any) -> None:
        """Write to an rclpy logger."""
        super().__init__(_LogStream(logger.info))
        self._logger = logger
        self._bag_started = time.monotonic()
        self._values: dict[str, Any] = {'state': 'starting', 'bag': ''}
        self._numbers = dict.fromkeys(
            ('bags_done', 'bags_failed', 'bags_total', 'frames_done', 'frames_total', 'warnings'),
            0,
        )

    def bag_started(self, number: int, total: int, bag: str) -> None:
        """Name the bag."""
        super().bag_started(number, total, bag)
        self._bag_started = time.monotonic()
        self._values = {'state': 'reading timestamps', 'bag': bag}
        self._numbers['bags_total'] = total
        self._count_frames()

    def bag_refused(self, number: int, total: int, outcome: Outcome) -> None:
        """Log why a bag is not going to be converted, as an error."""
        self._numbers['bags_total'] = total
        self._failed(outcome, f'[{number}/{total}] ')

    def planned(self, number: int, plan: PlanReport) -> None:
        """Log the plan."""
        super().planned(number, plan)
        self._values['state'] = 'converting'
        self._count_frames()

    def progressed(self, number: int, done: int, total: int) -> None:
        """Log a line now and then."""
        super().progressed(number, done, total)
        self._count_frames()

    def _count_frames(self) -> None:
        """Sum up the bags that are being converted."""
        bars = self._bars.values()
        self._numbers['frames_done'] = sum(bar.done for bar in bars)
        self._numbers['frames_total'] = sum(bar.total for bar in bars)

    def warning(self, text: str) -> None:
        """Log what is wrong beside the bags."""
        self._numbers['warnings'] += 1
        self._logger.warning(visible(text))

    def _remark(self, number: int, text: str) -> None:
        self._numbers['warnings'] += 1
        label = self._label(number)
        self._logger.warning(visible(f'{label}: {text.strip()}' if label else text.strip()))

    def bag_finished(self, number: int, outcome: Outcome, plan: PlanReport | None) -> None:
        """Log what became of the bag, as an error where it is not in the dataset."""
        if outcome.status in ('failed', 'skipped'):
            self._bars.pop(number, None)
            self._failed(outcome)
        else:
            self._numbers['bags_done'] += 1
            super().bag_finished(number, outcome, plan)

    def assembling(self, episodes: int) -> None:
        """Log that the dataset is being put together."""
        super().assembling(episodes)
        self.set_state('assembling')

    def _failed(self, outcome: Outcome, place: str = '') -> None:
        self._numbers['bags_done'] += 1
        self._numbers['bags_failed'] += 1
        text = f'{place}{outcome.bag}: {outcome.status}: {outcome.reason}'
        self._logger.error(visible(text))

    def set_state(self, state: str) -> None:
        """Set the state in which no bag is being converted."""
        self._values = {'state': state, 'bag': ''}

    def values(self) -> dict[str, Any]:
        """Return where the conversion is, by name."""
        values: dict[str, Any] = {**self._values, **self._numbers}
        elapsed = max(time.monotonic() - self._bag_started, 1e-9)
        values['frames_per_second'] = round(values['frames_done'] / elapsed, 1)
        values['peak_memory_mb'] = round(peak_memory_mb())
        return values

    def status(self, name: str) -> DiagnosticStatus:
        """Return the values as ROS diagnostics of the node of that name."""
        values = self.values()
        warned = values['bags_failed'] or values['warnings']
        level = DiagnosticStatus.WARN if warned else DiagnosticStatus.OK
        return DiagnosticStatus(
            level=DiagnosticStatus.ERROR if values['state'] in _FAILED else level,
            name=f'{name.lstrip("/")}: conversion',
            hardware_id=socket.gethostname(),
            message=visible(' '.join(filter(None, (values['state'], values['bag'])))),
            values=[KeyValue(key=key, value=visible(str(value))) for key, value in values.items()],
        )


def log_report(report: Report, logger: Any) -> None:
    """Log the tables of a run, and why the dataset is not where it was to be as an error."""
    print_report(report, _LogStream(logger.info))
    if report.problem:
        logger.error(visible(report.problem))
