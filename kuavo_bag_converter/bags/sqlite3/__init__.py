"""SQLite files of rosbag2."""
