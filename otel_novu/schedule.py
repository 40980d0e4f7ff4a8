"""When reports are due: at a fixed rate, at a phase that each instance keeps."""

import hashlib
import time
from collections.abc import Callable
from uuid import UUID


def boot_time() -> float:
    """Seconds that only grow; time spent in a suspend counts."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def phase(instance: UUID, interval: float) -> float:
    """Return at which second of each interval, counted from Unix time 0, an instance reports."""
    digest = hashlib.sha256(instance.bytes).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * interval


class Schedule:
    """Due times on the boot clock; the wall clock (`now`, Unix time) decides only the first."""

    def __init__(
        self, instance: UUID, interval: float, now: float, clock: Callable[[], float] = boot_time
    ) -> None:
        self._interval, self._clock = interval, clock
        self._due = clock() + (phase(instance, interval) - now) % interval

    def remaining(self) -> float:
        """Seconds until the next report is due; 0 if it is due."""
        return max(0.0, self._due - self._clock())

    def advance(self) -> None:
        """Go on to the next due time; missed ones are skipped."""
        missed = max(0.0, (self._clock() - self._due) // self._interval)
        self._due += self._interval * (missed + 1)
