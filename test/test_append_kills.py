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

"""A run that is killed before any step of replacing a dataset loses and doubles nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys

from arm_runs import convert_arm, statuses, write_bag, write_profile
from dataset_reading import tree
from kuavo_bag_converter.jobs.folders import atomic_renames
from kuavo_bag_converter.support.errors import UsageError
import pytest

KILLS = 16
STEPS = ('os.rename', 'os.link', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.symlink', 'ctypes.dlsym')
"""What changes folders, as Python's audit events name it; the last are renames with flags."""


@pytest.fixture
def world(tmp_path):
    """Return a dataset of one bag, with files of others, that grows by a bag."""
    profile = write_profile(tmp_path)
    bags = [write_bag(tmp_path / f'bags/{number}.bag', number) for number in range(2)]
    convert_arm(bags[:1], tmp_path / 'before/out', profile)
    root = tmp_path / 'before/out'
    (root / 'README.md').write_text('card')
    (root / 'notes').mkdir()
    (root / 'notes/link').symlink_to('../README.md')
    shutil.copytree(root, tmp_path / 'expected/out', symlinks=True)
    convert_arm(bags, tmp_path / 'expected/out', profile, append=True)
    return bags, profile


def steps_of(run, stop_at):
    """Run in a process that kills itself before a step; return the steps that it got to."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        seen = 0

        def hook(event, arguments):
            nonlocal seen
            if event in STEPS and not (event == 'ctypes.dlsym' and arguments[1] != 'renameat2'):
                seen += 1
                os.write(write, f'{event} {arguments}\n'.encode())
                if seen == stop_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            run()
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding='utf-8') as stream:
        steps = stream.read().splitlines()
    os.waitpid(process, 0)
    return steps


@pytest.mark.parametrize('flags', [True, False], ids=['swapped at once', 'one by one'])
def test_an_append_that_is_killed_before_any_step(world, tmp_path, monkeypatch, flags):
    bags, profile = world
    if not flags:

        def unknown(*_):
            raise OSError(22, 'Invalid argument')

        monkeypatch.setattr(atomic_renames, '_renameat2', unknown)
    before, expected = tree(tmp_path / 'before/out'), tree(tmp_path / 'expected/out')
    place = tmp_path / 'place'

    def grow():
        return convert_arm(bags, place / 'out', profile, append=True)

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tmp_path / 'before', place, symlinks=True)

    fresh()
    steps = steps_of(grow, 0)
    assert tree(place / 'out') == expected
    swap = max(number for number, step in enumerate(steps, 1) if 'replacement' in step)
    near = [number for number in range(swap - 4, swap + 6) if number <= len(steps)]
    others = set(range(1, len(steps) + 1)) - {*near}
    kills = sorted([*near, *random.Random(5).sample(sorted(others), KILLS - len(near))])
    found = []
    for kill in kills:
        fresh()
        steps_of(grow, kill)
        if not flags and (place / 'out').exists() and not os.listdir(place / 'out'):
            with pytest.raises(UsageError, match='something is there in place of the dataset'):
                grow()  # nobody knows whose empty folder it is
            (place / 'out').rmdir()
        if (place / 'out').exists():
            found.append([before, expected].index(tree(place / 'out')))
        else:
            assert not flags
            assert tree(place / 'out.unfinished/previous') == before
            found.append(2)
        outcome = grow()
        assert outcome.exit_code == 0, steps[kill - 1]
        assert 'failed' not in statuses(outcome)
        assert tree(place / 'out') == expected, steps[kill - 1]
        assert os.readlink(place / 'out/notes/link') == '../README.md'
        assert sorted(os.listdir(place)) == ['out'], steps[kill - 1]
    assert set(found) == ({0, 1} if flags else {0, 1, 2})


def test_a_first_run_that_is_killed_before_any_step(world, tmp_path):
    bags, profile = world
    convert_arm(bags, tmp_path / 'whole/out', profile)
    expected = tree(tmp_path / 'whole/out')
    place = tmp_path / 'place'

    def convert():
        return convert_arm(bags, place / 'out', profile)

    steps = steps_of(convert, 0)
    for kill in sorted(random.Random(6).sample(range(1, len(steps) + 1), KILLS // 2)):
        shutil.rmtree(place, ignore_errors=True)
        steps_of(convert, kill)
        if (place / 'out').exists():
            assert tree(place / 'out') == expected
            with pytest.raises(UsageError, match='exists already'):
                convert()
        else:
            assert convert().exit_code == 0
        assert tree(place / 'out') == expected, steps[kill - 1]
        assert sorted(os.listdir(place)) == ['out'], steps[kill - 1]
