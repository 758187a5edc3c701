"""Directories of rosbag2, and its own reader."""
