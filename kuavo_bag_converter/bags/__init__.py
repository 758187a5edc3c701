"""Bags of every container behind one reader."""

from kuavo_bag_converter.bags.discover import Recording, find_recordings
from kuavo_bag_converter.bags.open import open_bag

__all__ = ['Recording', 'find_recordings', 'open_bag']
