"""A month in the life of a Novu in minutes, for pictures of the dashboard.

    PYTHONPATH=examples/stack:examples/grafana .venv/bin/python tests/lively_month.py --port 19191

starts a collector and a Prometheus, sends them the hourly reports of two exporters beside a growing
Novu, evaluates the recording rules, and waits until Ctrl-C, so that the dashboard can be drawn.
With `--hours 0` or `--hours 1` it is the first day: one report, or two.
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
# Hours before the end:
PROVIDER_AWAY = range(14, 19)
WORKER_KILLED = 8 * 24 + 3
DATABASE_AWAY = range(19 * 24, 19 * 24 + 2)
HOST_AWAY = range(13 * 24, 13 * 24 + 5)
# Channel, provider, messages for each event, share that fails, share that is late.
MAILS = ("email", "sendgrid", 0.8, 0.004, 0.02)
CHANNELS = (
    MAILS,
    ("in_app", "novu", 1.0, 0.0, 0.01),
    ("push", "fcm", 0.5, 0.03, 0.01),
    ("sms", "twilio", 0.12, 0.01, 0.05),
    ("chat", "slack", 0.06, 0.0, 0.0),
)


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
        delivered = self.novu.delivered
        delivered.active = {(channel, "prod"): 1 for channel, *_ in CHANNELS}
        delivered.active |= {("email", "prod"): 2, ("email", "dev"): 1, ("in_app", "dev"): 1}
        sizes = (2.1, 5.2, 16.4, 9.1, 0.012, 0.003)
        delivered.sizes = dict(zip(delivered.sizes, (size * 1e9 for size in sizes), strict=True))
        ages = (KEPT_DAYS, 214, 214, 214, 231, 230)
        delivered.oldest = dict(zip(delivered.oldest, map(float, ages), strict=True))
        self._random = random.Random(7)  # noqa: S311 - invented data
        self._events: Counter[int] = Counter()

    def hour(self, at: float, left: int) -> None:
        """Create what an hour creates, and delete what is too old; `left` hours before the end."""
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
        for channel in CHANNELS:
            away = left in PROVIDER_AWAY and channel is MAILS
            self._send(events, channel, 0.9 if away else channel[3])
        self._work(at, events, left)

    def _send(
        self, events: int, channel: tuple[str, str, float, float, float], odds: float
    ) -> None:
        name, provider, share, _, late = channel
        count = round(events * share)
        failed = sum(self._random.random() < odds for _ in range(count))
        slow = sum(self._random.random() < max(late, odds / 2) for _ in range(count - failed))
        send = self.novu.delivered.send
        send(name, provider, count - failed - slow)
        send(name, provider, slow, delay="10m" if odds > late else "1m")
        send(name, provider, failed, "warning" if name == "push" else "error", "10s")
        if name != "push":
            self.novu.delivered.fail(name, "provider_error", failed)

    def _work(self, at: float, events: int, left: int) -> None:
        delivered = self.novu.delivered
        delivered.count("job.created", 2 * events)
        skipped = events // 9
        delivered.count("job.skipped", skipped, skip_reason="preference", step_type="email")
        delivered.count("job.skipped", skipped // 2, skip_reason="step_condition", step_type="push")
        delivered.fail("email", "content", int(self._random.random() < 0.04))
        delivered.fail("sms", "no_integration", int(self._random.random() < 0.03))
        if left == WORKER_KILLED:
            delivered.lose("email", 37)
        if left in {5, 31}:
            delivered.lose("digest", 2, status="delayed", age="7d")
        if left == 4:
            delivered.lose("push", 3)
        for name, per_event in (("messages", 900), ("jobs", 1500), ("executiondetails", 700)):
            delivered.sizes[name] += events * per_event * 40
            delivered.oldest[name] += HOUR / DAY
        delivered.newest = dict.fromkeys(("event", "message", "job"), at + 13 * 60)
        delivered.newest["subscriber"] = at

    def _create(self, entity: str, count: int) -> None:
        self.novu.create(entity, count)
        if entity == "workflow":
            self.novu.totals["workflow.step.count"] += 3 * count


def live(own: Backend, hours: int, end: float) -> None:
    """Report hourly, with an outage of a host, one of the database and one of a provider."""
    growth, noise = Growth(), random.Random(5)  # noqa: S311 - as above
    hosts = {
        minute: Reporter(own.receiver, growth.novu, "shop", f"novu-worker-{number}")
        for number, minute in enumerate((14, 41), 1)
    }
    own.step = 120 if hours < 24 else 240
    for left in reversed(range(hours + 1 + KEPT_DAYS * 24)):
        begin = end - (left + 1) * HOUR
        growth.hour(begin, left)
        if left > hours:
            continue
        for minute, reporter in hosts.items():
            if minute == 41 and (left in HOST_AWAY or hours < 2):
                continue
            reporter.memory_free = int((2.5 + noise.random()) * 2**30)
            reporter.report(begin + minute * 60, failed=left in DATABASE_AWAY)
        if left % 24 == 0:
            own.wait_for('novu_beacon_timestamp_seconds{job="shop/novu"}', begin + 15 * 60)
            time.sleep(1)
            own.record(begin - min(23, hours) * HOUR + 60, begin + HOUR * (1 if left else 1.75))


def last_end() -> float:
    """Return a recent morning, so that the provider is away in business hours."""
    end = time.time() // DAY * DAY - DAY + 8 * HOUR
    while datetime.fromtimestamp(end - DAY, UTC).weekday() > 4:
        end -= DAY
    return end


def main() -> None:
    """Live a month, then wait."""
    parser = argparse.ArgumentParser(description="A month in the life of a Novu.")
    parser.add_argument("--port", type=int, default=19191, help="of the Prometheus")
    parser.add_argument("--hours", type=int, default=31 * 24)
    options = parser.parse_args()
    parts, end = build(), last_end()
    prometheus = LongPrometheus(PROMETHEUS_CONFIG, binaries=parts, port=options.port)
    with backend(parts, prometheus) as own:
        live(own, options.hours, end)
        sys.stdout.write(f"{prometheus.address} has what ended at {end:.0f}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
