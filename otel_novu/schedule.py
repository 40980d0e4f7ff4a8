"""When reports are due: at a fixed rate, at a phase that is stable per instance."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

# Time that passes during a suspend counts: an overdue report leaves on resume.
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def steady_time() -> float:
    """Seconds that only grow at their pace, whatever the wall clock does."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


def phase(instance: UUID, interval: float) -> float:
    """Spread instances evenly over the interval.

    Args:
        instance: the instance id.
        interval: seconds between two reports.

    Returns:
        Seconds into the interval (counted from Unix time 0) at which this instance reports.
    """
    digest = hashlib.sha256(instance.bytes).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * interval


@dataclass(slots=True)
class Schedule:
    """Due times on the steady clock; the wall clock is asked once, for the phase.

    Args:
        interval: seconds between two reports.
        due: the next due time, seconds of the steady clock.
        steady: the steady clock.
    """

    interval: float
    due: float
    steady: Callable[[], float]

    @classmethod
    def start(
        cls, instance: UUID, interval: float, now: Callable[[], float], steady: Callable[[], float]
    ) -> "Schedule":
        """Begin, with the first due time at the next point of the instance's phase.

        Args:
            instance: the instance id.
            interval: seconds between two reports.
            now: the wall clock, Unix time in seconds.
            steady: the steady clock, seconds.
        """
        wait = (phase(instance, interval) - now()) % interval
        return cls(interval, steady() + wait, steady)

    def remaining(self) -> float:
        """Seconds until the next report is due; 0 where it is due."""
        return max(0.0, self.due - self.steady())

    def advance(self) -> None:
        """Go on to the next due time; those that passed meanwhile are left out, not made up for."""
        missed = math.floor((self.steady() - self.due) / self.interval)
        self.due += self.interval * (max(0, missed) + 1)
