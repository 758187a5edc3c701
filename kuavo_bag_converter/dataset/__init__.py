"""LeRobot datasets on disk, written without lerobot: shards, one for each bag, and assembly."""
