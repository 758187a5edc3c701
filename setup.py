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

"""Install the package, with colcon as an ament_python package or with pip without ROS."""

from pathlib import Path
import re
import sysconfig

from setuptools import Extension, find_packages, setup

NAME = 'kuavo_bag_converter'
HOME = 'https://r-seed-3eb575c8.example/kuavo_bag_converter'
# colcon's symlink install runs a link to this file, beside which the rest is not.
ROOT = Path(__file__).resolve().parent
ROS2_RUN = ('convert', 'inspect', 'verify', 'watch')


def _version() -> str:
    text = (ROOT / NAME / 'support' / 'version.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f'{NAME}/support/version.py has no __version__')
    return match[1]


def _requirements() -> list[str]:
    lines = (ROOT / 'requirements.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if not line.startswith('#')]


def _shared(folder: str, pattern: str) -> list[tuple[str, list[str]]]:
    """Return the data_files entries that install a tree below share/, folder by folder."""
    files: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob(pattern)):
        relative = path.relative_to(ROOT)
        files.setdefault(f'share/{NAME}/{relative.parent}', []).append(str(relative))
    return list(files.items())


def _extensions() -> list[Extension]:
    """
    Return the extension that makes depth pictures faster to read.

    It is left out where it cannot be built: FFmpeg does the same work.
    """
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        return []
    source = f'{NAME}/messages/png_rows.c'
    options = ['-O3', '-Wno-psabi']
    name = f'{NAME}.messages.png_rows'
    return [Extension(name, [source], extra_compile_args=options, optional=True)]


setup(
    name=NAME,
    version=_version(),
    description='Convert ROS bags to LeRobot datasets in a small, flat amount of memory',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    url=HOME,
    project_urls={
        'Source': HOME,
        'Issues': f'{HOME}/issues',
        'Changelog': f'{HOME}/blob/main/CHANGELOG.rst',
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Console',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Multimedia :: Video :: Conversion',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    keywords='ros ros2 rosbag mcap lerobot robot dataset imitation-learning',
    maintainer='kuavo_bag_converter maintainers',
    maintainer_email='maintainers@users.noreply.r-seed-3eb575c8.example',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    ext_modules=_extensions(),
    package_data={'': ['py.typed', '*.yaml', '*.msg']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        # Where `ros2 run` looks; a bin/convert of pip's would hide other programs of that name.
        (f'lib/{NAME}', [f'scripts/ros2_run/{name}' for name in ROS2_RUN]),
        *_shared('launch', '*.launch.py'),
        *_shared('config', '*.yaml'),
    ],
    python_requires='>=3.10',
    install_requires=_requirements(),
    extras_require={
        'completion': ['argcomplete'],
        'benchmark': ['imagecodecs', 'matplotlib'],
        'catalogue': ['duckdb>=1.0'],
        'examples': ['h5py', 'zarr'],
        'ray': ['ray'],
        'fast': ['isal'],
        # Where files lie, see docs/remote.md.
        'remote': ['fsspec'],
        's3': ['s3fs'],
        'gs': ['gcsfs'],
        'azure': ['adlfs'],
        'http': ['fsspec[http]'],
        'hub': ['huggingface_hub>=1.6,<3'],
        'test': [
            'duckdb',
            'h5py',
            'huggingface_hub',
            'hypothesis',
            'moto[server]',
            'pytest',
            'ray',
            's3fs',
            'zarr',
        ],
    },
    entry_points={
        'console_scripts': [
            f'convert_node = {NAME}.node.convert_node:main',
            f'convert_server = {NAME}.node.convert_server:main',
            f'watch_node = {NAME}.node.watch_node:main',
            f'{NAME} = {NAME}.__main__:main',
            f'kbc = {NAME}.__main__:main',
        ],
        'ros2bag.verb': [f'to_lerobot = {NAME}.cli.ros2bag_verb:ToLerobotVerb'],
    },
    zip_safe=False,
)
