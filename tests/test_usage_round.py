import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from faults import BOUND
from scripted_mongo import Document, Hang, answering, closing, failing, scripted_mongo, silent
from servers import eventually
from shelf import Shelf

from otel_novu.metrics.question import Stage
from otel_novu.metrics.usage import COLLECTIONS, FIGURES, Created
from otel_novu.settings import Secret
from otel_novu.sources.failure import NoConnection, ReadFailed, TimedOut
from otel_novu.sources.novu_db import NovuDatabase
from otel_novu.sources.usage_round import PROVIDERS_KEPT, Questions, UsageRound, UsageSource

NOW = 1_800_000_000.0
NAMES = {figure.name for figure in FIGURES}
CREATED = {name for name in NAMES if name.endswith(".created")}
TOTALS = NAMES - CREATED

Behaviour = Callable[[float], Any]


class Asked:
    """Answers as the test says: by `hello`, `collections`, or a question and its collection."""

    def __init__(self, database: "Fake", limit: float) -> None:
        self._database = database
        self._limit = limit

    def hello_time(self) -> float:
        return float(self._answer("hello"))

    def collections(self) -> frozenset[str]:
        return frozenset(self._answer("collections"))

    def count(self, collection: str) -> int:
        return self._answer("count", collection)  # type: ignore[no-any-return]

    def aggregate(self, collection: str, pipeline: Sequence[Stage]) -> Sequence[Mapping[str, Any]]:
        assert pipeline
        return self._answer("aggregate", collection)  # type: ignore[no-any-return]

    def count_created(self, collection: str, begin: int, end: int) -> int:
        with self._database.lock:
            self._database.windows.append((collection, begin, end))
        return self._answer("created", collection)  # type: ignore[no-any-return]

    def _answer(self, *key: str) -> Any:
        with self._database.lock:
            self._database.asked.append((key, self._limit))
        behaviour = self._database.behaviours[key]
        return behaviour(self._limit) if callable(behaviour) else behaviour


class Fake:
    """A database that hangs, fails and lies on demand."""

    name = "novu-db"

    def __init__(self, changes: Mapping[tuple[str, ...], Any] | None = None) -> None:
        providers = {"largest": [{"_id": "novu", "n": 2}], "rest": []}
        self.behaviours: dict[tuple[str, ...], Any] = {
            ("hello",): NOW,
            ("collections",): COLLECTIONS,
            ("aggregate", "notificationtemplates"): [{"_id": None, "n": 9}],
            ("aggregate", "integrations"): [providers],
            **{("count", name): number for number, name in enumerate(COLLECTIONS, start=1)},
            **{("created", name): 1 for name in COLLECTIONS},
            **(changes or {}),
        }
        self.lock = threading.Lock()
        self.asked: list[tuple[tuple[str, ...], float]] = []
        self.windows: list[tuple[str, int, int]] = []
        self.closed = threading.Event()

    def within(self, seconds: float) -> Questions:
        return Asked(self, seconds)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a stuck thread waits for: the end of the test."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name.startswith("otel-novu-"):
            thread.join(60)
            assert not thread.is_alive()


def raising(error: BaseException) -> Behaviour:
    def behave(_limit: float) -> Any:
        raise error

    return behave


def overrun(limit: float) -> Any:
    """As the driver does with a server that hangs."""
    time.sleep(limit)
    raise TimedOut("timed out")


def stuck(gate: threading.Event) -> Behaviour:
    """As a resolver does that hangs: no limit reaches it."""
    return lambda _limit: gate.wait() and 1


def holds_nothing(round_: UsageRound) -> bool:
    reading = round_.reading
    return not (reading.totals or reading.providers or reading.created)


def read(
    database: Fake, store: Shelf | None = None, seconds: float = 60, now: float = NOW
) -> UsageRound:
    source = UsageSource(lambda _seconds: database, store or Shelf())
    return source.read(seconds, lambda: now)


def test_a_round_reads_every_figure_and_names_each_in_durations_and_failures() -> None:
    round_ = read(Fake())
    reading = round_.reading
    assert reading.timestamp == NOW
    assert reading.totals == {
        "user.count": 1,
        "organization.count": 2,
        "workflow.count": 3,
        "workflow.step.count": 9,
        "event.count": 4,
        "topic.count": 5,
        "subscriber.count": 6,
    }
    assert reading.providers == {"integration.count": {"novu": 2}}
    assert reading.created == dict.fromkeys(CREATED, Created(0, NOW))
    assert reading.durations.keys() == NAMES
    assert reading.failures == dict.fromkeys(NAMES, 0)
    assert round_.reasons == {}
    assert round_.collections == frozenset(COLLECTIONS)


def test_a_figure_that_fails_is_absent_counted_and_timed_and_the_others_stand() -> None:
    database = Fake({("count", "users"): raising(ReadFailed("not authorised (code 13)"))})
    source = UsageSource(lambda _seconds: database, Shelf())
    for number in (1, 2):
        round_ = source.read(60, lambda: NOW)
        assert round_.reasons == {"user.count": "not authorised (code 13)"}
        assert round_.reading.totals.keys() == {
            name for name in TOTALS if name not in {"user.count", "integration.count"}
        }
        assert "user.count" in round_.reading.durations
        assert round_.reading.failures["user.count"] == number
        assert round_.reading.failures["topic.count"] == 0


@pytest.mark.parametrize(
    "answer", [True, None, -1, 2**63, 1.5, "7", [], {"a": -1}, {"a": "b"}], ids=repr
)
def test_an_answer_that_is_no_count_is_a_failure(answer: Any) -> None:
    round_ = read(Fake({("count", "users"): answer}))
    assert round_.reasons == {"user.count": "the answer is no count"}
    assert "user.count" not in round_.reading.totals
    assert "user.count" not in round_.reading.providers


@pytest.mark.parametrize("answer", [[{}], [5], [{"largest": None, "rest": []}]], ids=repr)
def test_an_answer_of_an_odd_form_is_a_failure_of_its_figure_alone(answer: Any) -> None:
    assert read(Fake({("aggregate", "integrations"): answer})).reasons.keys() == {
        "integration.count"
    }


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemExit, KeyboardInterrupt])
def test_whatever_is_raised_is_a_failure_named_by_its_type_alone(
    error: type[BaseException],
) -> None:
    round_ = read(Fake({("count", "users"): raising(error("mongodb://root:s3cret@h"))}))
    assert round_.reasons == {"user.count": f"unexpected {error.__name__}"}


def test_a_slow_figure_does_not_hold_the_others() -> None:
    round_ = read(Fake({("aggregate", "notificationtemplates"): overrun}), seconds=4)
    assert round_.reasons == {"workflow.step.count": "timed out"}
    durations = round_.reading.durations
    assert durations["workflow.step.count"] > 2
    assert durations["user.count"] < durations["workflow.step.count"]


def test_more_slow_figures_than_workers_leave_the_others_their_turn() -> None:
    slow = [("count", name) for name in COLLECTIONS[:5]]
    database = Fake(dict.fromkeys(slow, overrun))
    round_ = read(database, seconds=6)
    assert {"workflow.step.count", "subscriber.count"} <= round_.reading.totals.keys()
    assert round_.reading.providers.keys() == {"integration.count"}
    assert round_.reading.created.keys() == CREATED
    assert set(round_.reasons.values()) == {"timed out"}


def test_slow_windows_leave_the_other_windows_their_turn() -> None:
    store = Shelf()
    read(Fake(), store)
    slow = [("created", name) for name in ("users", "organizations", "notifications", "topics")]
    later = NOW + 1000
    database = Fake({("hello",): later, **dict.fromkeys(slow, overrun)})
    round_ = read(database, store, seconds=6, now=later)
    assert round_.reading.created.keys() == {"workflow.created", "subscriber.created"}
    assert round_.reasons.keys() == CREATED - {"workflow.created", "subscriber.created"}


def test_a_fast_database_gives_the_last_question_nearly_all_the_time() -> None:
    database = Fake()
    read(database, seconds=1000)
    limits = dict(database.asked)
    assert limits["aggregate", "notificationtemplates"] > 900
    assert limits["aggregate", "integrations"] > 900


def test_totals_are_asked_before_windows() -> None:
    store = Shelf()
    read(Fake(), store)
    database = Fake({("hello",): NOW + 1000})
    read(database, store, now=NOW + 1000)
    kinds = [key[0] for key, _limit in database.asked]
    assert kinds[0] == "hello"
    assert kinds.index("created") > max(
        number for number, kind in enumerate(kinds) if kind in {"count", "aggregate"}
    )


def test_a_thread_that_no_limit_reaches_does_not_hold_the_round(gate: threading.Event) -> None:
    database = Fake({("aggregate", "integrations"): stuck(gate)})
    began = time.monotonic()
    round_ = read(database, seconds=1)
    assert 1 <= time.monotonic() - began < BOUND
    assert round_.reasons == {"integration.count": "timed out"}
    assert round_.reading.durations["integration.count"] >= 1
    assert round_.reading.created.keys() == CREATED


def test_a_round_under_way_ends_when_it_is_told_to_with_what_it_has(
    gate: threading.Event,
) -> None:
    asked = threading.Event()

    def stuck(_limit: float) -> Any:
        asked.set()
        gate.wait()

    source = UsageSource(lambda _: Fake({("count", "users"): stuck}), Shelf())
    rounds: list[UsageRound] = []
    reader = threading.Thread(target=lambda: rounds.append(source.read(300, lambda: NOW)))
    reader.start()
    assert asked.wait(BOUND)
    source.end_by(1)
    reader.join(BOUND)
    assert not reader.is_alive()
    assert rounds[0].reasons == {"user.count": "timed out"}


def test_a_database_that_can_not_be_opened_in_time_fails_every_figure(
    gate: threading.Event,
) -> None:
    late = Fake()

    def open_late(_seconds: float) -> Fake:
        gate.wait()
        return late

    store = Shelf()
    round_ = UsageSource(open_late, store).read(0.5, lambda: NOW)
    assert round_.reasons == dict.fromkeys(NAMES, "timed out")
    assert round_.reading.durations.keys() == NAMES
    assert store.data is None
    gate.set()
    assert late.closed.wait(BOUND)


def test_threads_that_hang_do_not_pile_up_without_bound(gate: threading.Event) -> None:
    opened: list[float] = []

    def open_stuck(seconds: float) -> Fake:
        opened.append(seconds)
        gate.wait()
        return Fake()

    source = UsageSource(open_stuck, Shelf())
    reasons = [source.read(0.05, lambda: NOW).reasons["user.count"] for _ in range(30)]
    assert reasons[0] == "timed out"
    assert reasons[-1] == "the previous reading still hangs"
    assert len(opened) == 8


def test_a_round_reads_again_when_the_threads_that_hung_are_gone(gate: threading.Event) -> None:
    def open_when_free(_seconds: float) -> Fake:
        gate.wait()
        return Fake()

    source = UsageSource(open_when_free, Shelf())
    while source.read(0.05, lambda: NOW).reasons["user.count"] == "timed out":
        pass
    gate.set()
    deadline = time.monotonic() + 120
    while (round_ := source.read(60, lambda: NOW)).reasons and time.monotonic() < deadline:
        time.sleep(0.05)
    assert round_.reasons == {}
    assert round_.reading.failures["user.count"] >= 9


def test_the_connection_is_closed_when_a_round_is_over() -> None:
    database = Fake()
    read(database)
    assert database.closed.wait(BOUND)
    eventually(
        lambda: [thread for thread in threading.enumerate() if "otel-novu" in thread.name],
        lambda left: not left,
    )


def test_the_connection_is_closed_though_a_question_hangs(gate: threading.Event) -> None:
    database = Fake({("count", "users"): stuck(gate)})
    read(database, seconds=0.5)
    assert database.closed.wait(BOUND)


def test_a_close_that_hangs_does_not_hold_the_round(gate: threading.Event) -> None:
    class NeverClosed(Fake):
        def close(self) -> None:
            gate.wait()

    began = time.monotonic()
    round_ = read(NeverClosed(), seconds=200)
    assert time.monotonic() - began < BOUND
    assert round_.reasons == {}


def test_without_a_connection_every_figure_fails_after_one_question_of_each_worker() -> None:
    why = "not authenticated (code 18)"
    refused = raising(NoConnection(why))
    first = [("hello",), ("collections",), ("count", "users"), ("count", "organizations")]
    database = Fake(dict.fromkeys(first, refused))
    store = Shelf()
    round_ = read(database, store)
    assert round_.reasons == dict.fromkeys(NAMES, why)
    assert sorted(key for key, _limit in database.asked) == sorted(first)
    assert holds_nothing(round_)
    assert store.data is None


@pytest.mark.parametrize("slow", [("hello",), ("count", "users")])
def test_without_a_connection_nothing_counts_whichever_question_ends_first(
    slow: tuple[str, ...],
) -> None:
    def later(_limit: float) -> int:
        time.sleep(0.1)
        if slow == ("hello",):
            raise NoConnection("the server went away")
        return 1

    gone = {("hello",): raising(NoConnection("the server went away"))}
    round_ = read(Fake(gone | {slow: later}))
    assert round_.reasons == dict.fromkeys(NAMES, "the server went away")
    assert holds_nothing(round_)


def test_a_database_that_can_not_be_opened_says_why() -> None:
    def open_nothing(_seconds: float) -> Fake:
        raise ReadFailed("the URL's options do not fit together")

    round_ = UsageSource(open_nothing, Shelf()).read(60, lambda: NOW)
    assert round_.reasons == dict.fromkeys(NAMES, "the URL's options do not fit together")


def test_without_the_databases_clock_the_totals_are_read_and_no_window_is() -> None:
    store = Shelf()
    round_ = read(Fake({("hello",): raising(ReadFailed("the server refused"))}), store)
    assert round_.reasons == dict.fromkeys(
        CREATED, "the database's clock can't be read: the server refused"
    )
    assert round_.reading.totals.keys() == TOTALS - {"integration.count"}
    assert store.data is None


EMPTY: dict[tuple[str, ...], Any] = {
    ("aggregate", "notificationtemplates"): [],
    ("aggregate", "integrations"): [{"largest": [], "rest": []}],
    **{("count", name): 0 for name in COLLECTIONS},
    **{("created", name): 0 for name in COLLECTIONS},
}


def test_a_database_without_novus_collections_fails_every_figure_and_moves_no_window() -> None:
    store = Shelf()
    read(Fake(), store)
    before = store.data
    later = NOW + 1000
    round_ = read(Fake({**EMPTY, ("hello",): later, ("collections",): ()}), store, now=later)
    why = 'none of Novu\'s collections exist in database "novu-db": wrong database?'
    assert round_.reasons == dict.fromkeys(NAMES, why)
    assert holds_nothing(round_)
    assert round_.reading.failures == dict.fromkeys(NAMES, 1)
    assert store.data == before


def test_collections_that_are_missing_beside_others_are_zero() -> None:
    round_ = read(Fake({**EMPTY, ("collections",): ("users",)}))
    assert round_.reasons == {}
    assert set(round_.reading.totals.values()) == {0}
    assert round_.reading.providers == {"integration.count": {}}


def test_figures_stand_without_the_list_of_collections_where_one_is_not_zero() -> None:
    refused = raising(ReadFailed("the server refused"))
    round_ = read(Fake({**EMPTY, ("collections",): refused, ("count", "topics"): 1}))
    assert round_.reasons == {}
    assert round_.reading.totals["user.count"] == 0
    assert round_.reading.created.keys() == CREATED
    assert round_.collections is None


def test_figures_that_are_all_zero_fail_without_the_list_of_collections() -> None:
    store = Shelf()
    refused = raising(ReadFailed("the server refused"))
    round_ = read(Fake({**EMPTY, ("collections",): refused}), store)
    assert round_.reasons == dict.fromkeys(
        NAMES, "every figure is 0, and which collections exist is not told: the server refused"
    )
    assert holds_nothing(round_)
    assert store.data is None


def of_providers(counts: Mapping[str, int]) -> Fake:
    largest = [{"_id": name, "n": count} for name, count in counts.items()]
    return Fake({("aggregate", "integrations"): [{"largest": largest, "rest": []}]})


def providers_of(source: UsageSource) -> Mapping[str, int]:
    return source.read(60, lambda: NOW).reading.providers["integration.count"]


def test_a_provider_that_is_gone_is_zero_until_the_process_ends() -> None:
    databases = iter([{"novu": 2, "sendgrid": 1}, {"novu": 3}, {"fcm": 1}, {"sendgrid": 4}])
    source = UsageSource(lambda _seconds: of_providers(next(databases)), Shelf())
    assert providers_of(source) == {"novu": 2, "sendgrid": 1}
    assert providers_of(source) == {"novu": 3, "sendgrid": 0}
    assert providers_of(source) == {"novu": 0, "sendgrid": 0, "fcm": 1}
    assert providers_of(source) == {"novu": 0, "sendgrid": 4, "fcm": 0}


def test_an_id_that_the_server_should_have_kept_is_other_here_too() -> None:
    odd = {"novu": 1, "other": 2, "Upper": 4, "novu\n": 8, "a" * 65: 16, "": 32, "é": 64}
    source = UsageSource(lambda _seconds: of_providers(odd), Shelf())
    assert providers_of(source) == {"novu": 1, "other": 126}


def test_provider_ids_beyond_a_thousand_in_a_processes_life_are_other() -> None:
    rounds = iter([{f"p{start + n}": 1 for n in range(200)} for start in range(0, 1400, 200)])
    source = UsageSource(lambda _seconds: of_providers(next(rounds)), Shelf())
    for _ in range(7):
        counts = providers_of(source)
        assert len(counts) <= PROVIDERS_KEPT
        assert sum(counts.values()) == 200
    assert counts["other"] == 200


def test_an_integration_figure_that_fails_sends_no_provider_as_zero() -> None:
    failed = Fake({("aggregate", "integrations"): raising(TimedOut("timed out"))})
    databases = iter([of_providers({"novu": 2}), failed])
    source = UsageSource(lambda _seconds: next(databases), Shelf())
    providers_of(source)
    assert source.read(60, lambda: NOW).reading.providers == {}


@pytest.mark.parametrize(("ours", "theirs"), [(1000, 5000), (5000, 1000)])
def test_a_window_ends_a_minute_before_the_earlier_clock(ours: int, theirs: int) -> None:
    store = Shelf()
    read(Fake(), store)
    database = Fake({("hello",): NOW + theirs})
    round_ = read(database, store, now=NOW + ours)
    assert ("users", NOW, NOW + 940) in database.windows
    assert round_.reading.created["user.created"] == Created(1, NOW)


def test_the_state_is_saved_when_a_round_returns() -> None:
    store = Shelf()
    read(Fake(), store)
    round_ = read(Fake({("hello",): NOW + 1000}), store, now=NOW + 1000)
    for figure, created in round_.reading.created.items():
        assert store.entry(figure)["total"] == created.count == 1
        assert store.entry(figure)["until"] == NOW + 940


def test_a_long_gap_is_caught_up_as_far_as_the_deadline_allows() -> None:
    def slowly(_limit: float) -> int:
        time.sleep(0.01)
        return 1

    store = Shelf()
    read(Fake(), store)
    later = NOW + 100_000 * 3600
    behaviours: dict[tuple[str, ...], Any] = {("created", name): slowly for name in COLLECTIONS}
    round_ = read(Fake({("hello",): later, **behaviours}), store, seconds=3, now=later)
    assert round_.reasons == {}
    for figure in CREATED:
        slices = round_.reading.created[figure].count
        assert 1 < slices < 1000
        assert store.entry(figure)["until"] == NOW + 3600 * slices


def test_a_slice_that_overran_is_halved_and_asked_again_in_the_same_round() -> None:
    def only_short(limit: float) -> int:
        _collection, begin, end = next(
            window for window in reversed(database.windows) if window[0] == "notifications"
        )
        if end - begin > 900:
            time.sleep(min(limit, 0.01))
            raise TimedOut("timed out")
        return 1

    store = Shelf()
    read(Fake(), store)
    later = NOW + 3660
    database = Fake({("hello",): later, ("created", "notifications"): only_short})
    round_ = read(database, store, now=later)
    lengths = [end - begin for name, begin, end in database.windows if name == "notifications"]
    assert lengths[:3] == [3600, 1800, 900]
    assert round_.reading.created["event.created"].count >= 4
    assert store.entry("event.created")["until"] == NOW + 3600


def test_slices_that_were_counted_before_one_failed_are_kept_and_the_figure_is_absent() -> None:
    answers = iter([5, 6])

    def fail_third(_limit: float) -> int:
        for answer in answers:
            return answer
        raise ReadFailed("the server refused")

    store = Shelf()
    read(Fake(), store)
    later = NOW + 60 + 5 * 3600
    database = Fake({("hello",): later, ("created", "topics"): fail_third})
    round_ = read(database, store, now=later)
    assert round_.reasons == {"topic.created": "the server refused"}
    assert "topic.created" not in round_.reading.created
    assert store.entry("topic.created")["until"] == NOW + 2 * 3600
    assert store.entry("topic.created")["total"] == 11


def test_counters_that_can_not_be_read_leave_the_totals_alone() -> None:
    store = Shelf()
    store.data = b"damaged"
    round_ = read(Fake(), store)
    (told,) = {round_.reasons[figure] for figure in CREATED}
    assert told.startswith("the state of the counters can't be read (move created.json in the ")
    assert round_.reasons.keys() == set(CREATED)
    assert round_.reading.totals.keys() == TOTALS - {"integration.count"}
    assert store.data == b"damaged"


def test_what_is_created_while_usage_is_off_is_not_counted() -> None:
    store = Shelf()
    clock = [NOW]

    def open_database(_seconds: float) -> Fake:
        return Fake({("hello",): clock[0]})

    source = UsageSource(open_database, store)
    for clock[0] in (NOW, NOW + 1000):
        source.read(60, lambda: clock[0])
    source.forget_begin()
    for clock[0] in (NOW + 9000, NOW + 9100):
        round_ = source.read(60, lambda: clock[0])
    assert round_.reading.created["event.created"] == Created(2, NOW)
    assert store.entry("event.created")["until"] == NOW + 9040


# On real sockets


def read_from(port: int, seconds: float) -> UsageRound:
    url = Secret(f"mongodb://127.0.0.1:{port}/novu-db")
    source = UsageSource(lambda given: NovuDatabase(url, given), Shelf())
    return source.read(seconds, lambda: NOW)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (silent, "timed out"),
        (answering(count=Hang(), aggregate=Hang(), listCollections=Hang()), "timed out"),
        (closing, "it closes the connection"),
        (answering(hello=failing(18)), "not authenticated"),
    ],
    ids=["never answers", "hangs after hello", "closes", "knows no such user"],
)
def test_a_server_that_answers_nothing_fails_every_figure_in_time(
    script: Callable[[Document], Document], words: str
) -> None:
    with scripted_mongo(script) as server:
        began = time.monotonic()
        round_ = read_from(server.port, 3)
        assert time.monotonic() - began < BOUND
    assert round_.reasons.keys() == NAMES
    assert all(words in reason for reason in round_.reasons.values())
    assert round_.reading.durations.keys() == NAMES


def test_a_server_that_hangs_over_one_collection_spares_the_others() -> None:
    rows = [{"name": name, "type": "collection"} for name in COLLECTIONS]
    listed = {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.$cmd", "firstBatch": rows}}
    empty = {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.x", "firstBatch": []}}
    answer = answering(listCollections=listed, aggregate=empty)

    def script(command: Document) -> Document:
        if command.get("count") == "notifications":
            raise Hang
        return answer(command)

    with scripted_mongo(script) as server:
        round_ = read_from(server.port, 6)
    assert round_.reasons == {"event.count": "timed out"}
    assert round_.reading.totals["user.count"] == 1
