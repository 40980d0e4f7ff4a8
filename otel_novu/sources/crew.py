"""Threads that ask questions side by side until a deadline, and are left behind if they hang."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from otel_novu.sources.failure import ReadFailed

GRACE = 0.25  # seconds after the deadline, in which a question that ended at it is heard


class Lane(Enum):
    """Which questions go first; each lane shares the workers that the other leaves."""

    FIRST = 0
    SECOND = 1


@dataclass(frozen=True, slots=True)
class Task:
    """A question.

    Args:
        ask: asks it within so many seconds; whatever it raises becomes a `ReadFailed`.
        settle: takes the answer or the failure, and how long it took in seconds. It is called
            by one thread at a time, never after the crew was dismissed, and may add tasks.
        lane: which questions it competes with.
        share: of the time that it may take, the part that it gets.
    """

    ask: Callable[[float], object]
    settle: Callable[[object, float], None]
    lane: Lane = Lane.FIRST
    share: float = 1.0


class Crew:
    """Daemon threads with one deadline.

    While questions wait, each gets its fair part of the time left: one that hangs can't keep
    the others from their turn. The last ones get all that is left.

    Args:
        workers: how many questions are asked at a time.
        seconds: until the deadline, from now on.
    """

    def __init__(self, workers: int, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        lock = threading.RLock()
        # Two, as each that is woken costs the others the interpreter for a moment.
        self._work_waits = threading.Condition(lock)
        self._over = threading.Condition(lock)
        self._waiting: dict[Lane, deque[Task]] = {lane: deque() for lane in Lane}
        self._running: list[Lane] = []
        self._dismissed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"otel-novu-reader-{number}", daemon=True)
            for number in range(workers)
        ]

    def add(self, task: Task) -> None:
        """Let a task wait for its turn; called before `run` or while a task is settled."""
        self._waiting[task.lane].append(task)

    def left(self) -> float:
        """Tell how much time is left, seconds."""
        return self._deadline - time.monotonic()

    def hurry(self, seconds: float) -> None:
        """Bring the deadline forward, from any thread; what is asked by then hangs or is heard.

        Args:
            seconds: until the deadline, from now on; a later one than before changes nothing.
        """
        with self._over:
            self._deadline = min(self._deadline, time.monotonic() + seconds)
            self._over.notify_all()

    def run(self) -> None:
        """Work until all is settled or the deadline is past; nothing is settled after this."""
        try:
            for thread in self._threads:
                thread.start()
            with self._over:
                while not self._is_done() and (left := self.left() + GRACE) > 0:
                    self._over.wait(left)
        finally:
            with self._over:
                self._dismissed = True
                self._work_waits.notify_all()

    def threads(self) -> list[threading.Thread]:
        """Name the threads that live, some of which may hang."""
        # One that Ctrl-C kept from being started can't be joined.
        return [thread for thread in self._threads if thread.is_alive()]

    def _is_done(self) -> bool:
        return not self._running and not any(self._waiting.values())

    def _work(self) -> None:
        while (turn := self._take()) is not None:
            task, limit = turn
            began = time.monotonic()
            answer = _answer(task, limit)
            self._settle(task, answer, time.monotonic() - began)

    def _take(self) -> tuple[Task, float] | None:
        with self._work_waits:
            self._work_waits.wait_for(lambda: self._dismissed or self._is_done() or self._next())
            lane = self._next()
            if self._dismissed or lane is None:
                return None
            limit = self._limit(lane)
            task = self._waiting[lane].popleft()
            self._running.append(lane)
            return task, limit * task.share

    def _next(self) -> Lane | None:
        return next((lane for lane in Lane if self._waiting[lane]), None)

    def _limit(self, lane: Lane) -> float:
        elsewhere = sum(running is not lane for running in self._running)
        workers = max(1, len(self._threads) - elsewhere)
        return self.left() / math.ceil(len(self._waiting[lane]) / workers)

    def _settle(self, task: Task, answer: object, seconds: float) -> None:
        with self._work_waits:
            self._running.remove(task.lane)
            try:
                if not self._dismissed:
                    task.settle(answer, seconds)
            finally:
                if self._is_done():
                    self._over.notify_all()
                    self._work_waits.notify_all()
                self._work_waits.notify(sum(map(len, self._waiting.values())))


def _answer(task: Task, limit: float) -> object:
    try:
        return task.ask(limit)
    except ReadFailed as failure:
        return failure
    except BaseException as error:  # noqa: BLE001 a thread that dies would keep its figure waiting
        return ReadFailed(f"unexpected {type(error).__name__}")
