"""What a check found wrong, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One rule that a dataset breaks; ``docs/verify.md`` lists the rules."""

    rule: str
    """What is broken, as ``<area>.<rule>``."""
    found: str
    expected: str
    file: str = ''
    """Relative to the dataset's root; '' where the finding is about no single file."""
    feature: str = ''
    episode: int | None = None
    frame: int | None = None
    """Within the episode."""
    places: int = 1
    """How many rows or frames of this file, feature and episode break the rule; the first of
    them is the one described."""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON can hold it."""
        return asdict(self)


class Findings:
    """Collects findings; those of one rule, file, feature and episode become one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, int | None], Finding] = {}

    def add(
        self,
        rule: str,
        found: object,
        expected: object,
        *,
        file: str = '',
        feature: str = '',
        episode: int | None = None,
        frame: int | None = None,
        places: int = 1,
    ) -> None:
        """Add a finding; of several in one place the first is described."""
        key = (rule, file, feature, episode)
        known = self._found.get(key)
        if known is None:
            self._found[key] = Finding(
                rule, str(found), str(expected), file, feature, episode, frame, places
            )
        else:
            self._found[key] = replace(known, places=known.places + places)

    def extend(self, others: Findings) -> None:
        """Add the findings of another collection, none of which is here yet."""
        self._found.update(others._found)

    def __iter__(self) -> Iterator[Finding]:
        return iter(list(self._found.values()))

    def __len__(self) -> int:
        return len(self._found)
