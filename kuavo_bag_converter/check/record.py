"""What ``conversion/`` of a dataset says of the bags that it was made from."""

from __future__ import annotations

from pathlib import Path

from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.dataset import record
from kuavo_bag_converter.dataset.layout import REPORT_PATH
from kuavo_bag_converter.dataset.record import ConversionRecord
from kuavo_bag_converter.support.errors import UsageError


def read_record(root: Path, findings: Findings) -> ConversionRecord | None:
    """Read the report of the conversion; None where there is none that can be read."""
    try:
        return record.read_record(root)
    except FileNotFoundError:
        return None
    except UsageError as error:
        expected = 'settings and bags, as the conversion wrote them'
        findings.add('conversion.unreadable', error, expected, file=REPORT_PATH)
        return None
