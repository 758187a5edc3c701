"""Install the decoder: pip install ./examples/foxglove_json."""

from setuptools import setup

setup(
    name='foxglove-json',
    version='1.0',
    py_modules=['foxglove_json'],
    install_requires=['kuavo_bag_converter'],
    entry_points={'kuavo_bag_converter.decoders': ['foxglove_json = foxglove_json:DECODER']},
)
