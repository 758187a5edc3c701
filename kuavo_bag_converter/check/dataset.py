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

"""Whether a dataset is what LeRobot's reader relies on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from kuavo_bag_converter.check.description import describe, Description
from kuavo_bag_converter.check.findings import Finding, Findings
from kuavo_bag_converter.check.images import check_images
from kuavo_bag_converter.check.metadata import check_conversion, check_details, check_metadata
from kuavo_bag_converter.check.modality import check_modality
from kuavo_bag_converter.check.rows import check_rows
from kuavo_bag_converter.check.statistics import check_episodes, check_total
from kuavo_bag_converter.check.videos import AccessCost, check_videos
import numpy as np

Extent = Literal['cheap', 'full']


def check_dataset(root: Path, depth: Extent = 'full', since: int = 0) -> list[Finding]:
    """
    Check a dataset, of this converter or of another program, without its bags.

    :param root: The dataset.
    :param depth: ``cheap`` reads metadata, the columns by which rows are found, and the packets of
        the videos without decoding them; ``full`` also reads every value, decodes every frame and
        computes the statistics again.
    :param since: The first episode whose files are read; those before are only looked for.
    :return: What is wrong; nothing if all is well.
    """
    findings = Findings()
    dataset = describe(root, findings)
    if dataset is not None:
        check_described(dataset, findings, depth, since)
    return list(findings)


def check_described(
    dataset: Description, findings: Findings, depth: Extent, since: int = 0
) -> Mapping[str, AccessCost]:
    """
    Check a dataset whose metadata has been read; for ``since`` see above.

    :return: What reading its videos costs.
    """
    full = depth == 'full'
    check_metadata(dataset, findings)
    check_rows(dataset, findings, values=full, since=since)
    pictures, access = check_videos(dataset, findings, decode=full, since=since)
    if full:
        pictures |= check_images(dataset, findings)
        check_modality(dataset, findings)  # also that of others, which stops no run
    with np.errstate(all='ignore'):  # numbers that are not finite are findings
        pools = check_episodes(dataset, findings, pictures if full else None)
        if dataset.version == 'v3.0':
            check_total(dataset, findings, pools, rows=full)
    if dataset.record is not None:
        check_conversion(dataset, dataset.record, findings, since)
        if full:
            check_details(dataset.record, findings)
    return access
