"""Numbers with a unit: how they are written, and between which bounds."""

import math
import re
from dataclasses import dataclass

from otel_novu.environment.faults import RefusedError

# Without underscores, `nan`, `inf` and digits of other scripts, all of which `float` would take.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)", re.IGNORECASE)
_AGE_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = re.compile(r"([+-]?[0-9]+)\s*(|B|KiB|MiB|GiB)", re.IGNORECASE)
_BYTES_UNIT = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, slots=True)
class Number:
    """Reads a plain decimal number.

    Args:
        least: the smallest number accepted.
        below: the first number that is too large.
        accepted: unit and bounds, as a phrase.
        too_large: the clause that refuses a number of `below` and more.
    """

    least: float
    below: float
    accepted: str
    too_large: str = "is too large"

    def read(self, text: str) -> float:
        """Return the number, which is finite and within the bounds."""
        if not _NUMBER.fullmatch(text.strip()):
            raise RefusedError("is not a number")
        number = float(text.strip())
        if number <= 0:
            raise RefusedError("is not greater than 0")
        if number < self.least:
            raise RefusedError("is too small")
        if math.isinf(number) or number >= self.below:
            raise RefusedError(self.too_large)
        return number


@dataclass(frozen=True, slots=True)
class Age:
    """Reads a length of time such as `7d`, `12h`, `30m`, `90s` or plain seconds.

    Args:
        least: the shortest one accepted, seconds.
        most: the longest one accepted, seconds.
        accepted: the form and the bounds, as a phrase.
    """

    least: float
    most: float
    accepted: str

    def read(self, text: str) -> float:
        """Return the seconds."""
        match = _AGE.fullmatch(text.strip())
        if match is None:
            raise RefusedError("is not a length of time")
        seconds = float(match[1]) * _AGE_SECONDS[match[2].lower()]
        if seconds < self.least:
            raise RefusedError("is too short")
        if seconds > self.most:
            raise RefusedError("is too long")
        return seconds


@dataclass(frozen=True, slots=True)
class Size:
    """Reads a number of bytes such as `64MiB`, or plain bytes.

    Args:
        least: the smallest one accepted, bytes.
        most: the largest one accepted, bytes.
        accepted: the form and the bounds, as a phrase.
    """

    least: int
    most: int
    accepted: str

    def read(self, text: str) -> int:
        """Return the bytes."""
        match = _BYTES.fullmatch(text.strip())
        if match is None:
            raise RefusedError("is not a number of bytes")
        # Not `int`, which gives up on thousands of digits; within the bounds it is as exact.
        size = float(match[1]) * _BYTES_UNIT[match[2].lower()]
        if size < self.least:
            raise RefusedError("is too small")
        if size > self.most:
            raise RefusedError("is too large")
        return int(size)
