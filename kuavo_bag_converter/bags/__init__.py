"""Bags of every container behind one reader."""

from .open import open_bag

__all__ = ['open_bag']
