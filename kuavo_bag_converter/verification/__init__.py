"""Whether a dataset is what LeRobot's reader relies on, and what its bags say."""
