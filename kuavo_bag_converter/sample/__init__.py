"""Recordings with known content, for trying things out and for checking datasets."""
