"""Convert ROS bags to LeRobot datasets in a small, flat amount of memory."""

__version__ = '0.1.0'
