"""When reports are due: at a fixed rate, at a phase that each instance keeps."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID


def boot_time() -> float:
    """Seconds that only grow; time spent in a suspend counts."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def phase(instance: UUID, interval: float) -> float:
    """Spread instances evenly over the interval.

    Returns:
        Seconds into the interval (counted from Unix time 0) at which this instance reports.
    """
    digest = hashlib.sha256(instance.bytes).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * interval


@dataclass(slots=True)
class Schedule:
    """Due times on the boot clock; the wall clock decides only the first.

    Args:
        interval: seconds between two reports.
        due: the next due time, seconds of the boot clock.
        clock: the boot clock.
    """

    interval: float
    due: float
    clock: Callable[[], float] = boot_time

    @classmethod
    def start(
        cls,
        instance: UUID,
        interval: float,
        now: float,
        clock: Callable[[], float] = boot_time,
    ) -> "Schedule":
        """Begin at the next point of the instance's phase; `now` is Unix time in seconds."""
        wait = (phase(instance, interval) - now) % interval
        return cls(interval, clock() + wait, clock)

    def remaining(self) -> float:
        """Seconds until the next report is due; 0 if it is due."""
        return max(0.0, self.due - self.clock())

    def advance(self) -> None:
        """Go on to the next due time; missed ones are skipped."""
        missed = math.floor((self.clock() - self.due) / self.interval)
        self.due += self.interval * (max(0, missed) + 1)
