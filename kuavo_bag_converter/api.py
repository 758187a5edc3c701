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

"""What a script calls where the parts of the package take :class:`Settings`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import threading

from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.bags.open import local_path
from kuavo_bag_converter.dataset.layout import PROFILE_PATH
from kuavo_bag_converter.inspection.bag import inspect_bag
from kuavo_bag_converter.inspection.report import BagReport
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.report import Observer, Report
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.loader import checked
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.profiles.shipped import is_path
from kuavo_bag_converter.robots.resolve import resolve, shapes_frames, topics_of, undecided
from kuavo_bag_converter.settings import Settings, settings_from
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import as_paths, Paths
from kuavo_bag_converter.support.places import url_of
from kuavo_bag_converter.support.remote.spool import Spool


def load_profile(
    profile: str | Path, *, bag: BagReader | None = None, **options: object
) -> Profile:
    """
    Return a profile by name or by path.

    :param profile: ``kuavo`` or another robot, the name of a shipped profile, or a YAML file.
    :param bag: Its topics settle options that are ``auto``.
    :param options: Those of a robot, by the names of its settings: ``train_hz=10``,
        ``resize={'width': 640, 'height': 480}``.
    :raises UsageError: There is no such profile, or an option is not allowed.
    :raises BagError: The topics of ``bag`` do not settle what is ``auto``.
    """
    source = 'load_profile'
    settings = settings_from({**options, 'profile': _named(profile)}, source)
    for name in options:
        if not shapes_frames(name):
            raise UsageError(f'{source}: {name}: is no option of a profile, but of a conversion')
    open_option = undecided(settings)
    if open_option and bag is None:
        raise UsageError(
            f'{source}: {open_option}: auto is settled by a bag; give bag, or set {open_option}'
        )
    return resolve(settings, () if bag is None else topics_of(bag, settings))


def inspect(
    bag: Paths, *, profile: str | Path | Profile | None = None, **settings: object
) -> BagReport:
    """
    Say what a recording holds, how healthy it is and what can convert it.

    :param bag: A bag file, a rosbag2 directory, or the files of one recording in order; or URLs.
    :param profile: See :func:`convert`; if it or an option of a robot is given, the report tells
        whether the bag fits that (``asked``).
    :param settings: Of a conversion, by name.
    :return: Also for a bag that cannot be read; its ``health`` and ``error`` say so.
    :raises UsageError: A setting is not allowed.
    """
    given = settings_from(settings, 'inspect')
    if profile is not None:
        given = _with_profile(given, profile, 'profile.yaml')
    spool = Spool(given.spool_dir, given.spool_mb)
    return inspect_bag(
        tuple(local_path(path, spool) for path in as_paths(bag)),
        given,
        Definitions(given.msg_path, given.distro),
        asked=profile is not None or any(map(shapes_frames, settings)),
    )


def convert(
    bags: Paths,
    output: str | Path,
    *,
    profile: str | Path | Profile = Settings.profile,
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
    **settings: object,
) -> Report:
    """
    Convert bags to a LeRobot dataset, as the command ``convert`` does.

    :param bags: Files, rosbag2 directories, or folders that hold many of them; or their URLs.
    :param output: Folder of the dataset, or a URL; it must not exist, unless ``append`` or
        ``retry_failed``.
    :param profile: What a frame is made of: a robot or a shipped profile by name, a YAML file, or
        an object. The dataset keeps it as ``conversion/profile.yaml``.
    :param observer: Is told how it goes on, by the calling thread.
    :param cancel: Set it, from any thread, to stop soon; finished bags are kept for the next run.
    :param settings: By name, as ``python -m kuavo_bag_converter convert --help`` lists them.
    :return: The outcome of every bag; the dataset exists if at least one was converted.
    :raises UsageError: The settings cannot be carried out.
    :raises OutputError: The disk is full or cannot be written.
    :raises DatasetError: What came out is not complete.
    :raises Cancelled: ``cancel`` was set.
    """
    values = {
        **settings,
        'bags': [url_of(path) or str(path) for path in as_paths(bags)],
        'output': url_of(output) or str(output),
    }
    given = _with_profile(settings_from(values, 'convert'), profile, Path(output, PROFILE_PATH))
    return convert_bags(given, observer=observer, cancel=cancel)


def _with_profile(
    settings: Settings, profile: str | Path | Profile, place: str | Path
) -> Settings:
    """Set the profile; an object is recorded as the file ``place``, which the dataset has."""
    if isinstance(profile, Profile):
        return replace(settings, profile=str(place), profile_object=checked(profile))
    return replace(settings, profile=_named(profile))


def _named(profile: str | Path) -> str:
    """Return a profile as settings name it: a path is told from a name by its look."""
    if isinstance(profile, Path) and not is_path(str(profile)):
        return f'./{profile}'
    return str(profile)
