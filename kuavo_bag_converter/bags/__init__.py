"""Bags of every container behind one reader."""

from .discover import Recording, find_recordings
from .open import open_bag

__all__ = ['Recording', 'find_recordings', 'open_bag']
