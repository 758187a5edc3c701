"""Bags of every container behind one reader."""
