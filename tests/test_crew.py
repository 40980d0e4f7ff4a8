import threading
import time

import pytest

from otel_novu.sources.crew import Crew, Lane, Task
from otel_novu.sources.failure import ReadFailed


def limits_of(crew: Crew, tasks: dict[str, Task]) -> dict[str, float]:
    """Run tasks that answer at once; the limit that each was given."""
    limits: dict[str, float] = {}
    for name, task in tasks.items():

        def ask(limit: float, name: str = name) -> object:
            limits[name] = limit
            return None

        crew.add(Task(ask, lambda _answer, _seconds: None, task.lane, task.share))
    crew.run()
    return limits


def blank(lane: Lane = Lane.FIRST, share: float = 1.0) -> Task:
    return Task(lambda _limit: None, lambda _answer, _seconds: None, lane, share)


def test_waiting_questions_share_the_time_and_the_last_gets_all_that_is_left() -> None:
    limits = limits_of(Crew(1, 1200), {name: blank() for name in "abcd"})
    assert [round(limits[name] / 100) for name in "abcd"] == [3, 4, 6, 12]


def test_several_workers_share_what_waits() -> None:
    limits = limits_of(Crew(4, 1200), {name: blank() for name in "abcdefgh"})
    assert round(limits["a"] / 100) == 6
    assert round(limits["h"] / 100) == 12


def test_a_question_may_be_given_a_part_of_its_time() -> None:
    assert round(limits_of(Crew(4, 1200), {"a": blank(share=0.5)})["a"] / 100) == 6


def test_the_second_lane_waits_for_the_first() -> None:
    order: list[str] = []
    crew = Crew(1, 60)
    crew.add(Task(lambda _limit: order.append("late"), lambda _answer, _s: None, Lane.SECOND))
    crew.add(Task(lambda _limit: order.append("early"), lambda _answer, _s: None, Lane.FIRST))
    crew.run()
    assert order == ["early", "late"]


def test_the_second_lane_reckons_with_the_workers_that_the_first_leaves() -> None:
    over = threading.Event()
    limits: dict[str, float] = {}

    def ask(name: str) -> Task:
        def note(limit: float) -> object:
            limits[name] = limit
            if len(limits) == 2:
                over.set()
            return None

        return Task(note, lambda _answer, _seconds: None, Lane.SECOND)

    crew = Crew(2, 1200)
    crew.add(Task(lambda _limit: over.wait(240), lambda _answer, _seconds: None))
    for name in ("a", "b"):
        crew.add(ask(name))
    crew.run()
    assert [round(limits[name] / 100) for name in ("a", "b")] == [6, 12]


def test_a_task_may_add_others_when_it_is_settled() -> None:
    crew = Crew(2, 60)
    answers: list[object] = []

    def settle(answer: object, _seconds: float) -> None:
        answers.append(answer)
        if len(answers) < 5:
            crew.add(Task(lambda _limit: len(answers), settle))

    crew.add(Task(lambda _limit: "first", settle))
    crew.run()
    assert answers == ["first", 1, 2, 3, 4]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_whatever_is_raised_becomes_a_failure_named_by_its_type(
    error: type[BaseException],
) -> None:
    def ask(_limit: float) -> object:
        raise error("secret")

    answers: list[object] = []
    crew = Crew(1, 60)
    crew.add(Task(ask, lambda answer, _seconds: answers.append(answer)))
    crew.run()
    assert isinstance(answers[0], ReadFailed)
    assert answers[0].reason == f"unexpected {error.__name__}"


def test_nothing_is_settled_after_the_deadline() -> None:
    over = threading.Event()
    answers: list[object] = []
    crew = Crew(1, 0.1)
    crew.add(Task(lambda _limit: over.wait(240), lambda answer, _seconds: answers.append(answer)))
    crew.add(Task(lambda _limit: 5, lambda answer, _seconds: answers.append(answer)))
    began = time.monotonic()
    crew.run()
    assert time.monotonic() - began < 60
    over.set()
    for thread in crew.threads():
        thread.join(60)
        assert not thread.is_alive()
    assert answers == []


def test_threads_end_when_all_is_settled() -> None:
    crew = Crew(4, 60)
    crew.add(blank())
    crew.run()
    for thread in crew.threads():
        thread.join(60)
        assert not thread.is_alive()


def test_a_deadline_can_be_brought_forward_and_never_put_off() -> None:
    over = threading.Event()
    crew = Crew(1, 240)
    crew.add(Task(lambda _limit: over.wait(240), lambda _answer, _seconds: None))
    crew.hurry(0.1)
    crew.hurry(240)
    began = time.monotonic()
    crew.run()
    over.set()
    assert time.monotonic() - began < 60


def test_ctrl_c_while_the_threads_start_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        if started:
            raise KeyboardInterrupt
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    held = threading.Event()
    crew = Crew(4, 60)
    crew.add(Task(lambda _limit: held.wait(60), lambda _answer, _seconds: None))
    with pytest.raises(KeyboardInterrupt):
        crew.run()
    assert crew.threads() == started
    held.set()
    started[0].join(60)
    assert crew.threads() == []
