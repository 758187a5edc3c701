"""A ROS domain of the tests' own, which no other machine and no other test run is in."""

import os


def environment(log_folder):
    """Variables for this process and its children."""
    variables = {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_LOG_DIR': str(log_folder),
    }
    if os.environ.get('ROS_DISTRO') == 'humble':
        # Before there were ranges; later distros warn about it.
        variables['ROS_LOCALHOST_ONLY'] = '1'
    return variables
