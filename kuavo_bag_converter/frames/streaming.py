"""Read the bag once, decode as messages come, keep everything, align at its end."""

from __future__ import annotations

from kuavo_bag_converter.frames.episode import BadPictures, Task
from kuavo_bag_converter.frames.loaded import LoadedBag


def convert_streaming(task: Task) -> BadPictures:
    """Convert a bag in one pass over its payloads, as the original's streaming method does.

    Raises:
        BagError: The bag is damaged or a message does not decode.
        Cancelled: The user asked to stop.

    """
    loaded = LoadedBag(task)
    for message in task.reader.messages(loaded.all_of(task.binding.topics)):
        loaded.take(message)
    return loaded.write(task.plan())
