"""A month in the life of a Novu in a minute, for pictures of the dashboard.

    PYTHONPATH=examples/stack .venv/bin/python tests/lively_month.py --port 19191

starts a collector and a Prometheus, sends them the hourly reports of two exporters beside a growing
Novu, and waits until Ctrl-C, so that the dashboard can be drawn.
"""

import argparse
import contextlib
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from history import DAY, HOUR, Backend, Novu, Reporter, backend
from stack import PROMETHEUS_CONFIG, Prometheus, build
from stack_servers import Process

KEPT_DAYS = 12  # of events: an operator deletes older ones at night
DATABASE_AWAY = range(12 * 24 + 2, 12 * 24 + 4)  # hours
HOST_AWAY = range(18 * 24 + 1, 18 * 24 + 6)


class LongPrometheus(Prometheus):
    """Keeps more than the default of 15 days."""

    def spawn(self, command: Sequence[str], *more: Any, **named: Any) -> Process:
        """Start it with one more flag."""
        command = [*command, "--storage.tsdb.retention.time=400d"]
        return super().spawn(command, *more, **named)


class Growth:
    """Grows a Novu hour by hour: much in business hours, little at night and on weekends."""

    def __init__(self) -> None:
        start = {"organization": 9, "user": 40, "workflow": 60, "topic": 110, "subscriber": 4000}
        totals = {f"{name}.count": count for name, count in start.items()}
        self.novu = Novu(
            Counter({**totals, "workflow.step.count": 190, "event.count": 0}),
            {"sendgrid": 24, "twilio": 11, "fcm": 9, "slack": 6, "mailgun": 3, "novu-email": 2},
        )
        self._random = random.Random(7)  # noqa: S311 - invented data
        self._events: Counter[int] = Counter()

    def hour(self, at: float) -> None:
        """Create what an hour creates, and delete what is too old."""
        moment = datetime.fromtimestamp(at, UTC)
        busy = moment.weekday() < 5 and 7 <= moment.hour < 19
        events = self._random.randrange(60, 140) if busy else self._random.randrange(12)
        self._create("event", events)
        self._events[int(at // DAY)] += events
        self._create("subscriber", events // 20)
        for name, odds in (("workflow", 0.03), ("topic", 0.06), ("user", 0.02)):
            self._create(name, int(busy and self._random.random() < odds))
        if moment.hour == 3:
            self.novu.delete("event", self._events.pop(int(at // DAY) - KEPT_DAYS, 0))

    def _create(self, entity: str, count: int) -> None:
        self.novu.create(entity, count)
        if entity == "workflow":
            self.novu.totals["workflow.step.count"] += 3 * count


def live(own: Backend, days: int, end: float) -> None:
    """Report hourly, with an outage of a host and one of the database."""
    growth, noise = Growth(), random.Random(5)  # noqa: S311 - as above
    hosts = {
        minute: Reporter(own.collector, growth.novu, "shop", f"novu-worker-{number}")
        for number, minute in enumerate((14, 41), 1)
    }
    for hour in range(days * 24):
        begin = end - (days * 24 - hour) * HOUR
        growth.hour(begin)
        for minute, reporter in hosts.items():
            if minute == 41 and hour in HOST_AWAY:
                continue
            reporter.memory_free = int((2.5 + noise.random()) * 2**30)
            reporter.report(begin + minute * 60, failed=hour in DATABASE_AWAY)


def main() -> None:
    """Live a month, then wait."""
    parser = argparse.ArgumentParser(description="A month in the life of a Novu.")
    parser.add_argument("--port", type=int, default=19191, help="of the Prometheus")
    parser.add_argument("--days", type=int, default=31)
    options = parser.parse_args()
    parts, end = build(), time.time() // HOUR * HOUR
    prometheus = LongPrometheus(PROMETHEUS_CONFIG, binaries=parts, port=options.port)
    with backend(parts, prometheus) as own:
        live(own, options.days, end)
        sys.stdout.write(f"{prometheus.address} has the month that ended at {end:.0f}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
