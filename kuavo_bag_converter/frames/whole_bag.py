"""Read and decode the bag topic by topic, then align, then write."""

from __future__ import annotations

from kuavo_bag_converter.frames.episode import BadPictures, Task
from kuavo_bag_converter.frames.loaded import LoadedBag


def convert_whole_bag(task: Task) -> BadPictures:
    """Convert a bag as the original converter's load-everything method does.

    Raises:
        BagError: The bag is damaged or a message does not decode.
        Cancelled: The user asked to stop.

    """
    loaded = LoadedBag(task)
    for topic in sorted(task.binding.topics):
        for message in task.reader.messages(loaded.all_of({topic})):
            loaded.take(message)
    return loaded.write(task.plan())
