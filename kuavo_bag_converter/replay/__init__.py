"""Converts the bags of a dataset again and compares in place of writing."""
