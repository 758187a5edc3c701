"""Whether a dataset is what LeRobot's reader and its own record say; reads no bag."""
