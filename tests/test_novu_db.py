import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
import trustme
from bson.datetime_ms import DatetimeMS
from opentelemetry import context
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from scripted_mongo import (
    HELLO,
    Document,
    Drop,
    Hang,
    Script,
    answering,
    closing,
    failing,
    scripted_mongo,
    silent,
)
from servers import eventually
from stack import free_port

from otel_novu.metrics.usage import COLLECTIONS, FIGURES
from otel_novu.settings import Secret
from otel_novu.sources.failure import NoConnection, ReadFailed, TimedOut
from otel_novu.sources.novu_db import NovuDatabase, commands, ignored_options

SECRET = "s3cretW0rd"
LIMIT = 30.0
SHORT = 1.5
# What hangs here hangs for good, or for a minute and a half.
BOUND = 60.0


def url_of(port: int, query: str = "") -> Secret:
    return Secret(f"mongodb://127.0.0.1:{port}/novu-db{query}")


def failure_of(
    url: Secret, ask: Callable[[NovuDatabase], object], timeout: float = LIMIT
) -> ReadFailed:
    def ask_once() -> None:
        database = NovuDatabase(url, timeout)
        try:
            ask(database)
        finally:
            database.close()

    with pytest.raises(ReadFailed) as raised:
        ask_once()
    assert SECRET not in repr(raised.value)
    return raised.value


def count_users(database: NovuDatabase) -> int:
    return database.count("users")


@pytest.fixture
def closed_port() -> int:
    return free_port()


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left() -> Iterator[None]:
    yield
    eventually(
        lambda: [thread for thread in threading.enumerate() if "pymongo" in thread.name],
        lambda left: not left,
    )


# What is sent


def test_the_commands_of_a_round_are_told_as_json_one_a_line() -> None:
    told = [json.loads(line) for line in commands(url_of(1), 5, (1_700_000_000, 1_700_003_600))]
    assert len(told) == 2 + len(FIGURES)
    assert [next(iter(command)) for command in told[:3]] == ["hello", "listCollections", "count"]
    assert {next(iter(command)) for command in told} == {
        "hello",
        "listCollections",
        "count",
        "aggregate",
    }
    for command in told[1:]:
        assert command["comment"] == "otel-novu"
        assert command["maxTimeMS"] == 5000
        assert command["$db"] == "novu-db"


def test_the_commands_that_are_told_hold_no_secret() -> None:
    url = Secret(f"mongodb://{SECRET}:{SECRET}@{SECRET}/novu-db?authSource={SECRET}")
    assert SECRET.lower() not in "".join(commands(url, 5, (1, 2))).lower()


def asked_of(port: int) -> None:
    database = NovuDatabase(url_of(port), LIMIT)
    database.hello_time()
    database.collections()
    for figure in FIGURES:
        if figure.name.endswith(".created"):
            database.count_created(figure.question.collection, 1_700_000_000, 1_700_003_600)
        else:
            figure.question.read(database)  # type: ignore[call-arg]
    database.close()


NOTHING: Document = {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.x", "firstBatch": []}}


def test_what_is_told_is_what_is_sent() -> None:
    told = [json.loads(line) for line in commands(url_of(1), LIMIT, (1_700_000_000, 1_700_003_600))]
    with scripted_mongo(answering(aggregate=NOTHING, listCollections=NOTHING)) as server:
        asked_of(server.port)
    ours = [
        command for command in server.commands if "lsid" in command and "endSessions" not in command
    ]
    assert len(ours) == len(told)
    for expected, sent in zip(told, ours, strict=True):
        document = json.loads(bson.json_util.dumps(sent))
        limit = document.pop("maxTimeMS", None)
        assert limit is None or 0 < limit <= LIMIT * 1000
        for key in ("lsid", "$readPreference"):
            document.pop(key, None)
            expected.pop(key, None)
        expected.pop("maxTimeMS", None)
        assert document == expected


def test_every_read_carries_what_is_left_of_its_time() -> None:
    with scripted_mongo(answering(aggregate=NOTHING, listCollections=NOTHING)) as server:
        asked_of(server.port)
    for command in server.commands:
        if next(iter(command)) in {"count", "aggregate", "listCollections"}:
            assert 0 < command["maxTimeMS"] <= LIMIT * 1000
            assert command["comment"] == "otel-novu"


def test_the_client_names_itself() -> None:
    with scripted_mongo(answering()) as server:
        asked = NovuDatabase(url_of(server.port, "?appName=other"), LIMIT)
        asked.count("users")
        asked.close()
    names = {c["client"]["application"]["name"] for c in server.commands if "client" in c}
    assert names == {"otel-novu"}


class Watcher(CommandListener):
    """Notes whether an instrumentation would have traced a command."""

    def __init__(self) -> None:
        self.suppressed: list[object] = []

    def started(self, event: CommandStartedEvent) -> None:
        assert event.command_name
        self.suppressed.append(context.get_value("suppress_instrumentation"))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def test_an_instrumentation_of_the_driver_is_told_to_look_away() -> None:
    watcher = Watcher()
    with scripted_mongo(answering()) as server:
        database = NovuDatabase(url_of(server.port), LIMIT, event_listeners=[watcher])
        database.count("users")
        database.close()
    assert watcher.suppressed[0] is True
    assert context.get_value("suppress_instrumentation") is None


# What goes wrong


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (13, ReadFailed, "not authorised (code 13): the user needs the role read on the database"),
        (18, NoConnection, "not authenticated (code 18): user, password or authSource is wrong"),
        (
            8000,
            NoConnection,
            "not authenticated (code 8000): user, password or authSource is wrong",
        ),
        (50, TimedOut, "timed out"),
        (262, TimedOut, "timed out"),
        (16500, ReadFailed, "the server has too much to do (code 16500)"),
        (2, ReadFailed, "the server refused (code 2)"),
        (None, ReadFailed, "the server refused"),
    ],
)
def test_what_the_server_refuses_is_told_by_its_code(
    code: int | None, kind: type[ReadFailed], reason: str
) -> None:
    with scripted_mongo(answering(count=failing(code, SECRET))) as server:
        failure = failure_of(url_of(server.port), count_users)
    assert type(failure) is kind
    assert failure.reason == reason


def test_a_server_that_hangs_after_hello_times_out() -> None:
    with scripted_mongo(answering(count=Hang())) as server:
        began = time.monotonic()
        failure = failure_of(url_of(server.port), count_users, SHORT)
    assert type(failure) is TimedOut
    assert time.monotonic() - began < BOUND


def test_a_server_that_never_answers_times_out() -> None:
    with scripted_mongo(silent) as server:
        failure = failure_of(url_of(server.port), count_users, SHORT)
    assert failure.reason == "timed out: the server does not answer"


def test_our_limits_beat_those_of_the_url() -> None:
    long = "?serverSelectionTimeoutMS=90000&timeoutMS=90000&socketTimeoutMS=90000"
    long += "&connectTimeoutMS=90000&waitQueueTimeoutMS=90000&minPoolSize=20"
    with scripted_mongo(silent) as server:
        began = time.monotonic()
        failure_of(url_of(server.port, long), count_users, SHORT)
        assert time.monotonic() - began < BOUND


def test_a_question_without_time_is_not_sent() -> None:
    with scripted_mongo(answering()) as server:
        database = NovuDatabase(url_of(server.port), LIMIT)
        for seconds in (0.0, -1.0, 0.001):
            with pytest.raises(TimedOut):
                database.within(seconds).count("users")
        database.close()
    assert server.commands == []


def test_a_server_that_refuses_connections_is_told(closed_port: int) -> None:
    failure = failure_of(url_of(closed_port), count_users, SHORT)
    assert isinstance(failure, NoConnection)
    assert failure.reason == "the server can't be reached: it refuses connections"


def test_a_name_that_can_not_be_resolved_is_told() -> None:
    url = Secret(f"mongodb://root:{SECRET}@nowhere.invalid/novu-db")
    failure = failure_of(url, count_users, 6)
    assert isinstance(failure, NoConnection)
    assert failure.reason == "the server can't be reached: its name can't be resolved"


def test_an_srv_record_that_can_not_be_resolved_is_told() -> None:
    url = Secret(f"mongodb+srv://root:{SECRET}@cluster.nowhere.invalid/novu-db")
    failure = failure_of(url, count_users, 6)
    assert failure.reason in {
        "the server can't be reached: its SRV record can't be resolved",
        "timed out",
    }


def test_a_server_that_closes_connections_is_told() -> None:
    with scripted_mongo(closing) as server:
        failure = failure_of(url_of(server.port), count_users, SHORT)
    assert isinstance(failure, NoConnection)
    assert (
        failure.reason == "the server can't be reached: it closes the connection; does it want TLS?"
    )


def test_a_server_too_old_for_the_driver_is_told() -> None:
    old = {**HELLO, "maxWireVersion": 5}
    with scripted_mongo(answering(hello=old, ismaster=old)) as server:
        failure = failure_of(url_of(server.port), count_users, SHORT)
    assert failure.reason == (
        "the server's version does not fit the driver: MongoDB 4.4 or newer is needed"
    )


def test_a_wrong_replica_set_is_told() -> None:
    member = {**HELLO, "setName": "rs0", "hosts": ["127.0.0.1:1"]}
    with scripted_mongo(answering(hello=member, ismaster=member)) as server:
        failure = failure_of(url_of(server.port, "?replicaSet=other"), count_users, SHORT)
    assert "replicaSet" in failure.reason


def test_a_connection_that_breaks_is_tried_once_more() -> None:
    counts: Iterator[Document | Exception] = iter([Drop(), {"ok": 1.0, "n": 7}])

    def script(command: Document) -> Document:
        if "count" in command:
            return answering(count=next(counts))(command)
        return answering()(command)

    with scripted_mongo(script) as server:
        database = NovuDatabase(url_of(server.port), LIMIT)
        assert database.count("users") == 7
        database.close()


def test_a_connection_that_breaks_every_time_is_told() -> None:
    with scripted_mongo(answering(count=Drop())) as server:
        failure = failure_of(url_of(server.port), count_users)
    assert (
        failure.reason == "the server can't be reached: it closes the connection; does it want TLS?"
    )
    assert server.names().count("count") == 2


def test_a_question_after_the_end_is_told() -> None:
    database = NovuDatabase(url_of(1), LIMIT)
    database.close()
    with pytest.raises(ReadFailed) as raised:
        database.count("users")
    assert raised.value.reason == "abandoned, as its round was over"


# TLS


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(made)
    return made


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    path = tmp_path / "ca.pem"
    made.cert_pem.write_to_path(path)
    return made, path


def test_a_certificate_that_is_trusted_lets_us_in(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    with scripted_mongo(answering(), server_context(ca.issue_cert("127.0.0.1"))) as server:
        database = NovuDatabase(url_of(server.port, f"?tls=true&tlsCAFile={path}"), LIMIT)
        assert database.count("users") == 1
        database.close()


def test_a_certificate_that_is_not_trusted_is_told(authority: tuple[trustme.CA, Path]) -> None:
    ca, _path = authority
    with scripted_mongo(answering(), server_context(ca.issue_cert("127.0.0.1"))) as server:
        failure = failure_of(url_of(server.port, "?tls=true"), count_users, SHORT)
    assert failure.reason == "TLS: the server's certificate is not trusted; is tlsCAFile right?"


def test_a_certificate_for_another_host_is_told(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    with scripted_mongo(answering(), server_context(ca.issue_cert("db.example.org"))) as server:
        url = url_of(server.port, f"?tls=true&tlsCAFile={path}")
        failure = failure_of(url, count_users, SHORT)
    assert failure.reason == "TLS: the server's certificate is for another host"


def test_a_certificate_out_of_date_is_told(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    past = datetime.now(UTC) - timedelta(days=2)
    old = ca.issue_cert("127.0.0.1", not_before=past, not_after=past + timedelta(days=1))
    with scripted_mongo(answering(), server_context(old)) as server:
        url = url_of(server.port, f"?tls=true&tlsCAFile={path}")
        failure = failure_of(url, count_users, SHORT)
    assert failure.reason == "TLS: the server's certificate is out of date"


def test_a_server_without_tls_is_told() -> None:
    with scripted_mongo(answering()) as server:
        failure = failure_of(url_of(server.port, "?tls=true"), count_users, SHORT)
    assert isinstance(failure, NoConnection)
    assert failure.reason.startswith(("TLS:", "the server can't be reached:"))


def test_a_certificate_file_that_is_missing_is_told_by_its_option(tmp_path: Path) -> None:
    url = url_of(1, f"?tls=true&tlsCAFile={tmp_path}/{SECRET}.pem")
    failure = failure_of(url, count_users)
    assert failure.reason == "the file of the URL's option tlsCAFile can't be read"


def test_a_certificate_file_that_holds_no_certificate_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    failure = failure_of(url_of(1, f"?tls=true&tlsCAFile={path}"), count_users)
    assert isinstance(failure, NoConnection)


# The URL's options


def test_options_that_the_driver_can_not_use_are_named_and_left_out() -> None:
    odd = f"?serverSelectionTimeoutMS={SECRET}&fancy={SECRET}&w=1&w=2&compressors=snappy"
    with scripted_mongo(answering()) as server:
        url = url_of(server.port, odd)
        assert ignored_options(url) == ("serverSelectionTimeoutMS", "fancy")
        database = NovuDatabase(url, LIMIT)
        assert database.count("users") == 1
        database.close()


@pytest.mark.parametrize("option", ["authMechanism", "authMechanismProperties"])
def test_an_option_that_decides_on_trust_is_never_left_out(option: str) -> None:
    failure = failure_of(url_of(1, f"?{option}={SECRET}"), count_users)
    assert failure.reason == f"the URL's option {option} has no lawful value"


def test_a_malformed_url_is_told_without_a_secret() -> None:
    failure = failure_of(Secret(f"mongodb://root:{SECRET}@h:99999"), count_users)
    assert failure.reason == "the URL can't be used: its port is no number from 1 to 65535"


def test_options_that_contradict_each_other_are_told() -> None:
    failure = failure_of(url_of(1, "?authMechanism=SCRAM-SHA-256"), count_users)
    assert failure.reason == "the URL's options do not fit together"


def test_good_options_are_kept() -> None:
    assert ignored_options(url_of(1, "?replicaSet=rs0&readPreferenceTags=a:b&w=majority")) == ()


# The database's clock


def told_time(script: Callable[[Document], Document]) -> float:
    with scripted_mongo(script) as server:
        database = NovuDatabase(url_of(server.port), LIMIT)
        try:
            return database.hello_time()
        finally:
            database.close()


def test_the_database_tells_its_time() -> None:
    assert told_time(answering()) == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_a_time_beyond_what_python_knows_is_still_a_time() -> None:
    far = {**HELLO, "localTime": DatetimeMS(2**53)}
    # The driver's own handshake asks as of old, and can't read such a time.
    old = {**HELLO, "helloOk": False}
    assert told_time(answering(hello=far, ismaster=old)) == 2**53 / 1000


@pytest.mark.parametrize("time_told", [None, 5, 5.5, "2026", bson.Timestamp(5, 1), {}], ids=repr)
def test_a_time_that_is_none_is_told(time_told: Any) -> None:
    odd = {**HELLO, "localTime": time_told}
    with pytest.raises(ReadFailed, match="does not tell its time"):
        told_time(answering(hello=odd, ismaster=odd))


def test_a_secondarys_clock_is_no_later_than_its_last_write() -> None:
    written = datetime(2025, 12, 31, 23, 0, tzinfo=UTC)
    lagging = {
        **HELLO,
        "isWritablePrimary": False,
        "ismaster": False,
        "secondary": True,
        "setName": "rs0",
        "lastWrite": {"lastWriteDate": written},
    }
    script = answering(hello=lagging, ismaster=lagging)
    with scripted_mongo(script) as server:
        database = NovuDatabase(url_of(server.port, "?directConnection=true"), LIMIT)
        assert database.hello_time() == written.timestamp()
        database.close()


def test_a_server_that_does_not_know_hello_is_asked_as_of_old() -> None:
    old = {**HELLO, "helloOk": False}
    assert (
        told_time(answering(hello=failing(59), ismaster=old, isMaster=old))
        == HELLO["localTime"].timestamp()
    )


# Answers


def test_collections_that_are_not_novus_are_left_out() -> None:
    rows = [{"name": "users", "type": "collection"}, {"name": "else", "type": "collection"}]
    listed = {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.$cmd", "firstBatch": rows}}
    with scripted_mongo(answering(listCollections=listed)) as server:
        database = NovuDatabase(url_of(server.port), LIMIT)
        assert database.collections() == {"users"}
        database.close()
    assert set(COLLECTIONS) > {"users"}


def test_answers_in_several_parts_are_read_to_the_end() -> None:
    first = {"ok": 1.0, "cursor": {"id": 9, "ns": "novu-db.users", "firstBatch": [{"n": 1}]}}
    second = {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.users", "nextBatch": [{"n": 2}]}}
    with scripted_mongo(answering(aggregate=first, getMore=second)) as server:
        database = NovuDatabase(url_of(server.port), LIMIT)
        assert database.aggregate("users", [{"$match": {}}]) == [{"n": 1}, {"n": 2}]
        database.close()
    assert [c["comment"] for c in server.commands if "getMore" in c] == ["otel-novu"]


def questions_at_once(database: NovuDatabase, number: int) -> None:
    threads = [
        threading.Thread(target=database.count, args=("users",), daemon=True) for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_questions_share_four_connections_and_one_more_watches_the_server() -> None:
    most: list[int] = []

    def script(command: Document) -> Document:
        if "count" in command:
            time.sleep(0.05)
            with running.lock:
                most.append(running.open)
        return answering()(command)

    running: Script
    with scripted_mongo(script) as running:
        database = NovuDatabase(url_of(running.port), LIMIT)
        questions_at_once(database, 12)
        database.close()
        eventually(lambda: running.open, lambda number: number == 0)
    assert len(most) == 12
    assert max(most) <= 5


# Secrets


@pytest.mark.parametrize(
    "script", [answering(), silent, closing], ids=["good", "silent", "closing"]
)
def test_no_log_line_holds_a_secret(
    script: Callable[[Document], Document], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted_mongo(script) as server:
        url = Secret(
            f"mongodb://root:{SECRET}@127.0.0.1:{server.port}/novu-db"
            f"?authSource=admin&serverSelectionTimeoutMS={SECRET}&fancy={SECRET}"
        )
        failure_of(url, count_users, SHORT)
    assert SECRET not in caplog.text
    assert SECRET not in "".join(str(record.__dict__) for record in caplog.records)
