"""Does what may hang on a thread of its own, so that nobody waits for it longer than he wants."""

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import TypeVar

T = TypeVar("T")

_LONGEST_WAIT = 3600.0  # of one call; the system's own has a limit, and patience may have none


class Patience:
    """Does tasks one after the other, in the order in which they came.

    Its thread lives only while there is something to do. While a task hangs, those that come are
    turned away at once; when it has ended, all is as before.

    Args:
        name: of the thread.
        seconds: how long a caller waits, `math.inf` included; it may be changed at any time.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._changed = Condition()
        self._waiting: deque[_Task] = deque()
        self._running: _Task | None = None
        self._alive = False

    def do(self, call: Callable[[], T]) -> T:
        """Do it, and return or raise what comes of it.

        Raises:
            TimeoutError: it is not done in time; it may still be, but only if it has begun.
        """
        answers: list[T] = []
        task = _Task(lambda: answers.append(call()))
        with self._changed:
            if self._hangs():
                raise TimeoutError
            self._add(task)
            self._await(task)
        if task.error is not None:
            raise task.error
        return answers[0]

    def do_sometime(self, call: Callable[[], object]) -> None:
        """Do it, and wait no longer than for another; it will be done whatever hangs now.

        Raises:
            TimeoutError: it is not done yet.
        """
        task = _Task(call)
        with self._changed:
            hangs = self._hangs()
            self._add(task)
            if hangs:
                raise TimeoutError
            self._await(task, give_up=False)
        if task.error is not None:
            raise task.error

    def begin(self, call: Callable[[], object]) -> None:
        """Do it without being waited for; left out where another has not begun yet."""
        with self._changed:
            if not self._waiting:
                self._add(_Task(call))

    def wait_at_most(self, seconds: float) -> None:
        """Change how long a caller waits, those that wait now included."""
        with self._changed:
            self._seconds = seconds
            self._changed.notify_all()

    def _hangs(self) -> bool:
        running = self._running
        return running is not None and time.monotonic() - running.begun >= self._seconds

    def _add(self, task: "_Task") -> None:
        self._waiting.append(task)
        if self._alive:
            return
        try:
            Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:  # no thread can be had: then its caller has to
            self._waiting.remove(task)
            task.work()
        else:
            self._alive = True

    def _await(self, task: "_Task", *, give_up: bool = True) -> None:
        while not task.done:
            left = task.asked + self._seconds - time.monotonic()
            if left <= 0:
                if give_up and task in self._waiting:
                    self._waiting.remove(task)
                raise TimeoutError
            self._changed.wait(min(left, _LONGEST_WAIT))

    def _work(self) -> None:
        while (task := self._next()) is not None:
            task.work()
            with self._changed:
                self._running = None
                self._changed.notify_all()

    def _next(self) -> "_Task | None":
        with self._changed:
            self._running = self._waiting.popleft() if self._waiting else None
            self._alive = self._running is not None
            if self._running is not None:
                self._running.begun = time.monotonic()
            return self._running


class _Task:
    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.asked = self.begun = time.monotonic()
        self.done = False
        self.error: BaseException | None = None

    def work(self) -> None:
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 - it is its caller's
            self.error = error
        self.done = True
