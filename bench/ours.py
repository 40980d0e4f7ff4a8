"""otel-novu's own round, as `run` reads it an hour after the last one."""

import json
import time

from otel_novu.settings import Secret
from otel_novu.sources.novu_db import NovuDatabase
from otel_novu.sources.usage_round import UsageRound, UsageSource

TIMEOUT = 60.0
CREATED = ("user", "organization", "workflow", "event", "topic", "subscriber")
HOUR = 3600


class HourAgo:
    """Counters of created documents that stand where a round an hour ago left them."""

    def load(self) -> bytes:
        """Return that state."""
        return hour_ago()

    def save(self, data: bytes) -> None:
        """Let it be."""


def hour_ago() -> bytes:
    """The counters' file as a round an hour ago left it; that round's window is one slice."""
    # A second less than the hour, as one may pass before the round reads the clock.
    until = int(time.time()) - 60 - HOUR + 1
    entry = {"total": 0, "since": until - HOUR, "until": until, "paused": False}
    return json.dumps(
        {"version": 1, "figures": {f"{name}.created": entry for name in CREATED}}
    ).encode()


def our_round(url: str) -> float:
    """Read all figures once; seconds."""
    source = UsageSource(lambda seconds: NovuDatabase(Secret(url), seconds), HourAgo())
    began = time.perf_counter()
    read = source.read(TIMEOUT, time.time)
    took = time.perf_counter() - began
    _must_be_whole(read)
    return took


def _must_be_whole(read: UsageRound) -> None:
    if read.reasons:
        raise RuntimeError(f"a figure was not read, so the time means nothing: {read.reasons}")
