"""How far apart in time the state and the pictures of a frame were taken."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kuavo_bag_converter.alignment import Fill, Plan, TrackPlan
from kuavo_bag_converter.binding import Binding

_STATE = 'observation.state'
_MILLISECOND = 1e6


@dataclass
class StateMinusPicture:
    """Stamp of the message that gives the state minus that of the picture, over all frames.

    Both are distances from the frame on the time line that the topic is aligned on; a state that
    is interpolated lies at the frame itself.
    """

    topic: str
    """Of the state."""
    camera: str
    """The camera's feature."""
    milliseconds: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def summary(self) -> dict[str, float | int]:
        """Return the median with its sign, and the 95th percentile and maximum of the size."""
        values = np.concatenate(self.milliseconds)
        size = np.abs(values)
        return {
            'frames': len(values),
            'median': round(float(np.median(values)), 3),
            'p95': round(float(np.percentile(size, 95)), 3),
            'max': round(float(size.max()), 3),
        }


Timing = dict[tuple[str, str], StateMinusPicture]


def add_timing(timing: Timing, binding: Binding, plan: Plan) -> None:
    """Add the frames of a bag."""
    states = {
        part.track
        for vector in binding.vectors
        for part in vector.parts
        if vector.feature.key == _STATE and part.track >= 0 and not part.part.gap_flag
    }
    for state in sorted(states):
        for camera in binding.cameras:
            key = (plan.tracks[state].track.topic, camera.feature.key)
            apart = _apart(plan.tracks[state], plan.tracks[camera.track])
            if len(apart):
                entry = timing.setdefault(key, StateMinusPicture(*key))
                entry.milliseconds.append(apart)


def _apart(state: TrackPlan, picture: TrackPlan) -> npt.NDArray[np.float32]:
    valued = (state.fill == Fill.VALUE) & (picture.fill == Fill.VALUE)
    apart = (state.error - picture.error)[valued] / _MILLISECOND
    return np.asarray(apart, np.float32)
