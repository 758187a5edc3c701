"""Install the writer: pip install ./examples/json_rows."""

from setuptools import setup

setup(
    name='json-rows',
    version='1.0',
    py_modules=['json_rows'],
    install_requires=['kuavo_bag_converter'],
    entry_points={'kuavo_bag_converter.writers': ['json_rows = json_rows:JSON_ROWS']},
)
