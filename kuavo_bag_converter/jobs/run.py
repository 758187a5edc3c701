"""What all steps of a run work with."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from kuavo_bag_converter.frames.stream import Filler
from kuavo_bag_converter.jobs.adding import Before
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.jobs.workspace import Workspace
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import Cancelled


@dataclass(frozen=True)
class Run:
    """One call of :func:`~kuavo_bag_converter.jobs.convert.convert`."""

    settings: Settings
    workspace: Workspace
    before: Before | None
    """The dataset that is added to."""
    observer: Observer
    cancel: threading.Event
    fill: Filler
    """Brings the messages of a bag to its frames."""

    def check_cancelled(self) -> None:
        """Stop if that was asked for.

        Raises:
            Cancelled: ``cancel`` is set.

        """
        if self.cancel.is_set():
            raise Cancelled

    def tell_notes(self) -> None:
        """Tell the observer what the workspace has to say."""
        for note in self.workspace.notes:
            self.observer.note(note)
        self.workspace.notes.clear()
