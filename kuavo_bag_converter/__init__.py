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
ROS bags to LeRobot datasets, and to aligned frames for a script of one's own.

Every name below is imported when it is first used: importing the package costs nothing, and
nothing of the process is changed. docs/api.md says what is promised::

    import kuavo_bag_converter as kbc

    with kbc.open_bag('run1.bag') as bag:
        profile = kbc.load_profile('robot.yaml')
        for chunk in kbc.iter_chunks(bag, profile):
            print(chunk.episode, chunk.vectors['action'].shape)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kuavo_bag_converter.support.version import __version__ as __version__  # noqa: F401

if TYPE_CHECKING:
    from kuavo_bag_converter.alignment.plan import Plan
    from kuavo_bag_converter.api import convert, inspect, load_profile
    from kuavo_bag_converter.bags.model import BagReader
    from kuavo_bag_converter.bags.open import open_bag
    from kuavo_bag_converter.frames.aligned import (
        Chunk,
        Frame,
        iter_chunks,
        iter_frames,
        Picture,
        plan,
    )
    from kuavo_bag_converter.inspection.report import BagReport
    from kuavo_bag_converter.jobs.report import Observer, Report
    from kuavo_bag_converter.profiles.model import Profile
    from kuavo_bag_converter.replay.verify import Verification, verify
    from kuavo_bag_converter.support.errors import (
        BagError,
        Cancelled,
        ConverterError,
        DamagedBagError,
        DatasetError,
        ImageError,
        OutputError,
        StalledError,
        UsageError,
    )

__all__ = [
    'BagError',
    'BagReader',
    'BagReport',
    'Cancelled',
    'Chunk',
    'ConverterError',
    'DamagedBagError',
    'DatasetError',
    'Frame',
    'ImageError',
    'Observer',
    'OutputError',
    'Picture',
    'Plan',
    'Profile',
    'Report',
    'StalledError',
    'UsageError',
    'Verification',
    'convert',
    'inspect',
    'iter_chunks',
    'iter_frames',
    'load_profile',
    'open_bag',
    'plan',
    'verify',
]

_MODULES = {
    'alignment.plan': ('Plan',),
    'api': ('convert', 'inspect', 'load_profile'),
    'bags.model': ('BagReader',),
    'bags.open': ('open_bag',),
    'frames.aligned': ('Chunk', 'Frame', 'Picture', 'iter_chunks', 'iter_frames', 'plan'),
    'inspection.report': ('BagReport',),
    'jobs.report': ('Observer', 'Report'),
    'profiles.model': ('Profile',),
    'replay.verify': ('Verification', 'verify'),
}
"""Where names are; errors are in ``support.errors``."""
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # else any name would seem to be there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        module = import_module(f'{__name__}.{_PLACES.get(name, "support.errors")}')
        value = globals()[name] = getattr(module, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
