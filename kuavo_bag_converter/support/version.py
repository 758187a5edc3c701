"""The version of the package, below every room that names it."""

__version__ = '0.1.0'
