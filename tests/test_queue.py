"""How the reports of one meter reach a sender that does as it is told, from a real spool."""

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from faults import BOUND
from receivers import FAULT_SECONDS
from servers import eventually

from otel_novu.delivery.queue import (
    FIRST_WAIT,
    LONGEST_WAIT,
    Attempt,
    Queue,
)
from otel_novu.delivery.spool import Spool
from otel_novu.journal import LOG, Journal
from otel_novu.outcome import Delivered, Later, Outcome, Refused
from otel_novu.state.directory import StateDirectory

NOON = 1_800_000_000.0
HOUR = 3600.0
METER = "beacon"
AWAY = Later("nothing listens there")
FORBIDDEN = Refused("it answers 401; mend the token")

Answer = Callable[[bytes], Outcome]


class Script:
    """A sender that answers as told, answer by answer, the last one again and again."""

    destination = "http://collector.example:4318/v1/metrics"

    def __init__(self, *answers: Outcome | Answer) -> None:
        self._answers: list[Outcome | Answer] = list(answers) or [Delivered()]
        self.sent: list[bytes] = []
        self.timeouts: list[float] = []
        self.times: list[float] = []

    def send(self, body: bytes, timeout: float) -> Outcome:
        answer = self._answers[min(len(self.sent), len(self._answers) - 1)]
        self.sent.append(body)
        self.timeouts.append(timeout)
        self.times.append(time.monotonic())
        return answer(body) if callable(answer) else answer


class World:
    """A queue, what it sends by, where it keeps its reports and what it tells."""

    def __init__(self, state: StateDirectory, script: Script) -> None:
        self.script = script
        self.attempts: list[Attempt] = []
        self.spool = Spool(state, 7 * 86400.0, 1 << 20, lambda: NOON)
        self.queue = Queue(METER, self.spool, script, 10.0, Journal(), self.attempts.append)

    def keep(self, *bodies: bytes) -> None:
        """Put reports into the spool as an earlier process left them."""
        for number, body in enumerate(bodies):
            self.spool.put(METER, body, NOON + number)

    @property
    def waiting(self) -> list[bytes]:
        """What waits, oldest first."""
        found, report = [], self.spool.oldest(METER)
        while report is not None:
            found.append(report.body)
            report = self.spool.after(report)
        return found


Build = Callable[..., World]


@pytest.fixture
def world(state_dir: Path) -> Iterator[Build]:
    with StateDirectory.open(state_dir) as state:
        built: list[World] = []

        def build(*answers: Outcome | Answer) -> World:
            built.append(World(state, Script(*answers)))
            return built[-1]

        yield build
        for each in built:
            each.queue.wind_up(0)
            each.queue.close()
        eventually(
            lambda: [t for t in threading.enumerate() if t.name == "otel-novu-beacon-delivery"],
            lambda left: not left,
        )


@contextmanager
def no_file_to_be_opened() -> Iterator[None]:
    """Let this process open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    held: list[int] = []
    try:
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.INFO]


def test_a_report_is_on_disk_before_it_is_sent_and_gone_when_it_is_delivered(
    world: Build, state_dir: Path
) -> None:
    on_disk: list[int] = []

    def look(_: bytes) -> Outcome:
        on_disk.append(len(list((state_dir / "spool").iterdir())))
        return Delivered()

    made = world(look)
    assert made.queue.put(b"one", NOON).kept
    eventually(lambda: on_disk and not made.waiting)
    assert on_disk == [1]
    assert list((state_dir / "spool").iterdir()) == []


def test_what_waits_leaves_oldest_first_and_byte_for_byte(world: Build) -> None:
    made = world()
    bodies = [bytes([n]) * 50 for n in range(20)]
    made.keep(*bodies)
    made.queue.start()
    eventually(lambda: not made.waiting)
    assert made.script.sent == bodies


def test_the_thread_lives_only_while_a_report_waits(world: Build) -> None:
    made = world()
    made.queue.start()
    for body in (b"one", b"two"):
        made.queue.put(body, NOON)
        eventually(
            lambda: [t for t in threading.enumerate() if t.name == "otel-novu-beacon-delivery"],
            lambda left: not left,
        )
    assert made.script.sent == [b"one", b"two"]


def test_a_report_that_has_to_wait_keeps_those_behind_it_in_order(world: Build) -> None:
    made = world(AWAY)
    made.keep(b"one", b"two")
    made.queue.attempt_all()
    assert made.script.sent == [b"one"]
    assert made.waiting == [b"one", b"two"]


def test_the_distances_between_attempts_grow_with_jitter_up_to_a_bound(world: Build) -> None:
    made = world(AWAY)
    made.keep(b"one")
    waits = [made.queue.attempt_all() for _ in range(12)]
    for number, wait in enumerate(waits):
        most = min(FIRST_WAIT * 2**number, LONGEST_WAIT)
        assert most / 2 <= wait <= most
    assert len(set(waits)) == len(waits)


def test_after_a_delivery_the_distances_begin_anew(world: Build) -> None:
    made = world(*[AWAY] * 5, Delivered(), AWAY)
    made.keep(b"one", b"two")
    for _ in range(5):
        made.queue.attempt_all()
    assert made.queue.attempt_all() <= FIRST_WAIT


def test_it_is_tried_again_without_being_asked(world: Build) -> None:
    made = world(AWAY, Delivered())
    made.queue.put(b"one", NOON)
    eventually(lambda: not made.waiting)
    first, second = made.script.times
    assert second - first >= FIRST_WAIT / 2


def test_a_new_report_makes_it_try_at_once_what_waits_first(world: Build) -> None:
    made = world(*[AWAY] * 9, Delivered())
    made.keep(b"one")
    # So many attempts on, the next one of its own is minutes away.
    for _ in range(8):
        made.queue.attempt_all()
    assert LONGEST_WAIT / 2 > 2 * BOUND
    made.queue.start()
    eventually(lambda: len(made.script.sent) == 9)
    made.queue.put(b"two", NOON + 1)
    eventually(lambda: not made.waiting, seconds=BOUND)
    assert made.script.sent[-2:] == [b"one", b"two"]


def test_a_receivers_wish_to_wait_is_obeyed_even_when_a_new_report_comes(world: Build) -> None:
    made = world(Later("503", after=3.0), Delivered())
    made.queue.put(b"one", NOON)
    eventually(lambda: made.script.sent)
    made.queue.put(b"two", NOON + 1)
    made.queue.start()
    eventually(lambda: not made.waiting)
    assert made.script.sent == [b"one", b"one", b"two"]
    assert made.script.times[1] - made.script.times[0] >= 3.0


def test_a_receiver_is_not_asked_before_the_time_that_it_told(world: Build) -> None:
    made = world(Later("503", after=365 * 86400.0))
    made.keep(b"one")
    for _ in range(3):
        made.queue.attempt_all()
    assert made.script.sent == [b"one"]


@pytest.mark.parametrize(("asked", "obeyed"), [(600.0, 600.0), (365 * 86400.0, HOUR)])
def test_a_receivers_wish_to_wait_is_obeyed_for_an_hour_at_most(
    world: Build, asked: float, obeyed: float
) -> None:
    made = world(Later("503", after=asked))
    made.keep(b"one")
    # A receiver that asks for a year by mistake must not silence the exporter for one.
    assert obeyed - 15 < made.queue.attempt_all() <= obeyed


def test_a_refused_report_is_set_aside_only_when_a_later_one_passes(
    world: Build, state_dir: Path
) -> None:
    made = world(lambda body: FORBIDDEN if body == b"bad" else Delivered())
    made.keep(b"bad", b"good", b"better")
    made.queue.attempt_all()
    assert made.script.sent == [b"bad", b"good", b"better"]
    assert made.waiting == []
    assert made.spool.dropped == 1
    assert len(list((state_dir / "spool-set-aside").iterdir())) == 1


def test_where_all_are_refused_none_is_given_up_and_few_are_sent(world: Build) -> None:
    made = world(FORBIDDEN)
    bodies = [bytes([n]) for n in range(100)]
    made.keep(*bodies)
    wait = made.queue.attempt_all()
    # The two oldest, and the newest: if that passes it was the reports, else it is the token.
    assert made.script.sent == [bodies[0], bodies[1], bodies[99]]
    assert made.waiting == bodies
    assert made.spool.dropped == 0
    assert wait == LONGEST_WAIT


def test_after_the_token_is_mended_all_that_was_refused_leaves_in_order(world: Build) -> None:
    made = world(*[FORBIDDEN] * 3, Delivered())
    bodies = [bytes([n]) for n in range(10)]
    made.keep(*bodies)
    made.queue.attempt_all()
    made.queue.attempt_all()
    assert made.script.sent[3:] == bodies
    assert made.spool.dropped == 0


def test_many_damaged_reports_before_good_ones_do_not_hold_them(world: Build) -> None:
    made = world(lambda body: FORBIDDEN if body < b"\x05" else Delivered())
    bodies = [bytes([n]) for n in range(10)]
    made.keep(*bodies)
    made.queue.attempt_all()
    assert made.waiting in ([], bodies[2:5])
    made.queue.put(b"\x0a", NOON + 20)
    eventually(lambda: not made.waiting)
    assert made.script.sent.count(b"\x09") == 1


def test_points_that_a_receiver_rejected_are_counted_and_told_and_the_report_is_delivered(
    world: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    made = world(Delivered(3, "too old"), Delivered(2), Delivered())
    made.keep(b"one", b"two", b"three")
    made.queue.attempt_all()
    assert made.waiting == []
    assert made.queue.rejected == 5
    assert said(caplog) == [
        f"{Script.destination} took the beacon report but rejected 3 of its data points: too old.",
        (
            f"{Script.destination} took the beacon report but rejected 2 of its data points: "
            "no reason given."
        ),
        f"{Script.destination} takes the beacon reports whole again.",
    ]


def test_a_failure_is_said_once_with_what_follows_and_so_is_its_end(
    world: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    made = world(AWAY, AWAY, Later("it hangs"), Delivered())
    made.keep(b"one")
    for _ in range(4):
        made.queue.attempt_all()
    assert said(caplog) == [
        (
            "The beacon report was not delivered to http://collector.example:4318/v1/metrics: "
            "nothing listens there; it is kept and tried again."
        ),
        (
            "The beacon report was not delivered to http://collector.example:4318/v1/metrics: "
            "it hangs; it is kept and tried again."
        ),
        "The beacon reports are delivered again to http://collector.example:4318/v1/metrics.",
    ]


def test_every_attempt_is_told_with_its_outcome(world: Build) -> None:
    made = world(AWAY, Delivered())
    made.keep(b"one")
    made.queue.attempt_all()
    made.queue.attempt_all()
    assert [(a.report.body, a.destination, a.outcome) for a in made.attempts] == [
        (b"one", Script.destination, AWAY),
        (b"one", Script.destination, Delivered()),
    ]


def test_the_end_gives_what_waits_one_more_attempt_in_the_time_that_is_left(world: Build) -> None:
    made = world(AWAY, Delivered())
    made.queue.put(b"one", NOON)
    eventually(lambda: made.script.sent)
    made.queue.wind_up(9)
    made.queue.close()
    assert made.waiting == []
    assert made.script.timeouts[0] == 10.0
    assert 0 < made.script.timeouts[1] <= 9


def test_what_is_not_delivered_at_the_end_stays_on_disk(world: Build) -> None:
    made = world(AWAY)
    made.keep(b"one", b"two")
    made.queue.wind_up(30)
    made.queue.close()
    assert made.waiting == [b"one", b"two"]
    assert made.script.sent == [b"one"]


def test_the_end_does_not_wait_for_a_sender_that_hangs_beyond_its_time(world: Build) -> None:
    released = threading.Event()

    def hang(_: bytes) -> Outcome:
        released.wait(FAULT_SECONDS)
        return AWAY

    made = world(hang)
    made.queue.put(b"one", NOON)
    eventually(lambda: made.script.sent)
    began = time.monotonic()
    made.queue.wind_up(0.5)
    made.queue.close()
    assert time.monotonic() - began < BOUND
    released.set()


def test_at_the_end_a_receivers_wish_to_wait_is_still_obeyed(world: Build) -> None:
    made = world(Later("503", after=60.0))
    made.queue.put(b"one", NOON)
    eventually(lambda: made.script.sent)
    made.queue.wind_up(1)
    made.queue.close()
    assert made.script.sent == [b"one"]


def test_a_sender_that_breaks_its_promise_costs_an_attempt_and_no_report(
    world: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG.name)

    def explode(_: bytes) -> Outcome:
        raise ValueError("secret text")

    made = world(explode, Delivered())
    made.queue.put(b"one", NOON)
    eventually(lambda: said(caplog))
    assert said(caplog) == [
        (
            "Delivery of the beacon reports stumbled (ValueError); it is tried again with the next "
            "report."
        )
    ]
    made.queue.put(b"two", NOON + 1)
    eventually(lambda: not made.waiting)
    assert made.script.sent == [b"one", b"one", b"two"]


def test_a_spool_that_can_not_be_read_at_the_moment_is_not_asked_again_and_again(
    world: Build, state_dir: Path
) -> None:
    made = world()
    made.keep(b"one")
    [file] = (state_dir / "spool").iterdir()
    with no_file_to_be_opened():
        assert made.queue.attempt_all() >= FIRST_WAIT / 2
    assert made.script.sent == []
    assert made.queue.attempt_all() == 0
    assert made.script.sent == [b"one"]
    assert not file.exists()
