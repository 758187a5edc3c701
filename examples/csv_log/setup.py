"""Install the container: pip install ./examples/csv_log."""

from setuptools import setup

setup(
    name='csv-log',
    version='1.0',
    py_modules=['csv_log'],
    install_requires=['kuavo_bag_converter'],
    entry_points={'kuavo_bag_converter.storages': ['csv_log = csv_log:CSV_LOG']},
)
