"""Install the robot: pip install ./examples/two_arms."""

from setuptools import setup

setup(
    name='two-arms',
    version='1.0',
    py_modules=['two_arms'],
    install_requires=['kuavo_bag_converter'],
    entry_points={'kuavo_bag_converter.robots': ['two_arms = two_arms:TWO_ARMS']},
)
