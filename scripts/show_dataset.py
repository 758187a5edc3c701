"""Print what a dataset holds: its files, its features and its first frames."""

# ruff: noqa: T201 (printing is what it is for)
import json
import sys
from pathlib import Path

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
