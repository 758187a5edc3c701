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

"""Print what a dataset holds: its files, its features and its first frames."""

# ruff: noqa: T201 (printing is what it is for)
import json
from pathlib import Path
import sys

from pyarrow import parquet


def show_files(root: Path) -> None:
    """Print every file below the root with its size."""
    for path in sorted(path for path in root.rglob('*') if path.is_file()):
        print(f'  {path.stat().st_size / 1024:10.1f} KiB  {path.relative_to(root)}')


def show_features(root: Path) -> None:
    """Print counts and features, as LeRobot's metadata states them."""
    info = json.loads((root / 'meta/info.json').read_text(encoding='utf-8'))
    print(
        f'  LeRobot {info["codebase_version"]}, {info["robot_type"]}, '
        f'{info["total_episodes"]} episode(s), {info["total_frames"]} frames at {info["fps"]} Hz'
    )
    for key, feature in info['features'].items():
        codec = feature.get('info', {}).get('video.codec', '')
        shape = ' x '.join(str(length) for length in feature['shape'])
        print(f'  {key:40} {feature["dtype"]:8} {shape:15} {codec}'.rstrip())


def show_frames(root: Path, count: int) -> None:
    """Print the numbers of the first frames."""
    table = parquet.read_table(min((root / 'data').rglob('*.parquet')))
    for row in table.slice(0, count).to_pylist():
        state, action = (
            ' '.join(f'{value:.3f}' for value in row[key][:4])
            for key in ('observation.state', 'action')
        )
        print(f'  {row["timestamp"]:6.2f} s  state {state} ...  action {action} ...')


def main() -> None:
    """Show the dataset that the command line names."""
    root = Path(sys.argv[1])
    print('files:')
    show_files(root)
    print('features:')
    show_features(root)
    print('first frames:')
    show_frames(root, 3)


if __name__ == '__main__':
    main()
