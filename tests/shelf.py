"""A store of the created counters that a test can look into."""

import json
from typing import Any


class Shelf:
    """Holds what was saved in the open.

    Args:
        data: what was saved before.
    """

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data
        self.saves = 0

    def load(self) -> bytes | None:
        """Return what was saved last."""
        return self.data

    def save(self, data: bytes) -> None:
        """Keep it in place of the last."""
        self.saves += 1
        self.data = data

    def entry(self, figure: str) -> dict[str, Any]:
        """Tell a figure's state."""
        entry = json.loads(self.data or b"")["figures"][figure]
        assert isinstance(entry, dict)
        return entry
