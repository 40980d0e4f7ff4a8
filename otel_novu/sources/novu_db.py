"""The one door to Novu's database: nothing behind it knows the driver."""

import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_plus

import pymongo
from bson import CodecOptions, ObjectId, json_util
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from opentelemetry import context
from pymongo.common import URI_OPTIONS_VALIDATOR_MAP
from pymongo.errors import (
    AutoReconnect,
    NetworkTimeout,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_preferences import PrimaryPreferred, SecondaryPreferred
from pymongo.uri_parser import split_options

from otel_novu.metrics.question import CreatedIn, Stage
from otel_novu.metrics.usage import COLLECTIONS, FIGURES, Figure
from otel_novu.mongo_url import DEFAULT_PORT, parse_mongo_url
from otel_novu.settings import Secret
from otel_novu.sources.failure import TIMED_OUT, NoConnection, ReadFailed, TimedOut, UnknownCommand
from otel_novu.sources.novu_errors import Client, translated

APP_NAME = "otel-novu"
CONNECTIONS = 4

Command = dict[str, Any]
Document = Mapping[str, Any]
Preference = PrimaryPreferred | SecondaryPreferred
Answer = TypeVar("Answer")

_TOTALS: Preference = SecondaryPreferred()
# A secondary that lags by more than a minute would hide documents of a window for ever.
_WINDOWS: Preference = PrimaryPreferred()

_CODEC = CodecOptions[dict[str, Any]](
    tz_aware=True,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_MILLISECONDS = 1000
# Below this the driver could send `maxTimeMS: 0`, which means without limit.
_SHORTEST = 0.02

# Options whose loss would change who is trusted or who we are.
_NEVER_IGNORED = re.compile("(auth|tls|ssl)", re.IGNORECASE)
_FILES = frozenset({"tlscafile", "tlscertificatekeyfile", "tlscrlfile"})
_REPEATED = "readpreferencetags"
# Counts are too small to compress, and the driver warns of codecs that are not installed.
_UNWANTED = frozenset({"compressors", "zlibcompressionlevel"})


class _Line(Protocol):
    """Where a command goes; `_Wire` sends it, `_Notebook` writes it down."""

    def reply(self, command: Command, preference: Preference) -> Document:
        """Answer a command with one document."""

    def rows(self, command: Command, preference: Preference) -> Sequence[Document]:
        """Answer a command with a cursor's documents."""


class Questions:
    """Words the command of each question, and reads its answer; see `NovuDatabase`."""

    def __init__(self, line: _Line, limit: float) -> None:
        self._line = line
        self._limit = limit

    def count(self, collection: str) -> int:
        """Estimate how many documents a collection holds, from its metadata."""
        command = {"count": collection, **self._marks()}
        return int(self._line.reply(command, _TOTALS)["n"])

    def aggregate(self, collection: str, pipeline: Sequence[Stage]) -> Sequence[Document]:
        """Run a pipeline; its documents."""
        return self._line.rows(self._aggregate(collection, pipeline), _TOTALS)

    def count_created(self, collection: str, begin: int, end: int) -> int:
        """Count the documents whose `_id` was made in a window.

        Only the index of `_id` is read, and unlike the command `count` this leaves out what a
        sharded cluster keeps of a chunk that moved away.

        Args:
            collection: its name.
            begin: the first second of the window, Unix time.
            end: the first second after it, Unix time.
        """
        window = {"_id": {"$gte": _first_id(begin), "$lt": _first_id(end)}}
        pipeline: list[Stage] = [
            {"$match": window},
            {"$group": {"_id": None, "n": {"$sum": 1}}},
        ]
        rows = self._line.rows(self._aggregate(collection, pipeline), _WINDOWS)
        return int(rows[0]["n"]) if rows else 0

    def hello_time(self) -> float:
        """Ask for the database's clock.

        A secondary's clock is no later than the last write that it has.

        Returns:
            Unix time, seconds.
        """
        answer = self._hello()
        times = [answer.get("localTime")]
        last_write = answer.get("lastWrite")
        if answer.get("secondary") is True and isinstance(last_write, Mapping):
            times.append(last_write.get("lastWriteDate"))
        return min(_unix_time(time) for time in times)

    def collections(self) -> frozenset[str]:
        """Ask which of Novu's collections exist."""
        command = {
            "listCollections": 1,
            "filter": {"name": {"$in": list(COLLECTIONS)}},
            "nameOnly": True,
            "authorizedCollections": True,
            "cursor": {},
            **self._marks(),
        }
        names = {str(row["name"]) for row in self._line.rows(command, _TOTALS)}
        return frozenset(names.intersection(COLLECTIONS))

    def _hello(self) -> Document:
        try:
            return self._line.reply({"hello": 1}, _WINDOWS)
        except UnknownCommand:  # MongoDB before 4.4.2
            return self._line.reply({"isMaster": 1}, _WINDOWS)

    def _aggregate(self, collection: str, pipeline: Sequence[Stage]) -> Command:
        command = {"aggregate": collection, "pipeline": list(pipeline), "cursor": {}}
        return {**command, **self._marks()}

    def _marks(self) -> Command:
        """What an administrator finds in the profiler, and what the server stops at."""
        return {"comment": APP_NAME, "maxTimeMS": int(self._limit * _MILLISECONDS)}


class NovuDatabase(Questions):
    """Novu's database, for one round: at most four connections, made when first asked.

    Making it looks the hosts up in DNS, which no time limit bounds. Its methods may be called
    from several threads, and raise `ReadFailed` whatever the driver raises.

    Args:
        url: `MONGO_URL`; the database is its path, else `novu-db`.
        timeout: for each question, seconds; it beats the URL's own time-outs.
        event_listeners: of pymongo's monitoring, for those who watch what is sent.

    Raises:
        ReadFailed: the URL can't be used.
    """

    def __init__(self, url: Secret, timeout: float, *, event_listeners: Sequence[Any] = ()) -> None:
        try:
            target = parse_mongo_url(url.reveal())
        except ValueError as error:
            raise NoConnection(f"the URL can't be used: {error}") from None
        with translated():
            self._client = _client(url.reveal(), timeout, event_listeners)
        self.name = target.database
        self._tls = target.tls
        super().__init__(self._wire(timeout), timeout)
        # A resolver that hangs holds this thread, which its caller counts, and not one of the
        # driver's, of which each round would leave another behind.
        _resolve(() if target.srv else target.hosts)

    def within(self, seconds: float) -> Questions:
        """Ask over the same connections with another limit for each question.

        Args:
            seconds: may be zero or less, then every question times out at once.
        """
        return Questions(self._wire(seconds), seconds)

    def _wire(self, limit: float) -> "_Wire":
        return _Wire(self._client, self.name, limit, tls=self._tls)

    def close(self) -> None:
        """Close every connection; may take a while where the server hangs."""
        with suppress(ReadFailed), translated():
            self._client.close()


def commands(url: Secret, timeout: float, window: tuple[int, int]) -> tuple[str, ...]:
    """Tell the commands that a round sends, as relaxed Extended JSON, one a line.

    They are worded by the code that sends them. In a round `maxTimeMS` is what is left of the
    round's time. The driver adds `$db`, `$readPreference` where the server is no standalone one,
    and the number of a session, which is not told here.

    Args:
        url: `MONGO_URL`, for the database's name.
        timeout: of a round, seconds.
        window: of the documents created, begin and end, Unix time in seconds.
    """
    notebook = _Notebook(parse_mongo_url(url.reveal()).database)
    questions = Questions(notebook, timeout)
    figures = [_reading(figure, questions, window) for figure in FIGURES]
    for ask in (questions.hello_time, questions.collections, *figures):
        with suppress(_Noted):
            ask()
    return tuple(notebook.lines)


def ignored_options(url: Secret) -> tuple[str, ...]:
    """Name the options of a good URL that the driver doesn't know or whose value it can't read.

    They are left out of the connection; the values are not told.

    Raises:
        ReadFailed: an option that decides on trust or identity has no lawful value.
    """
    with translated():
        return _usable(url.reveal())[1]


def _reading(figure: Figure, questions: Questions, window: tuple[int, int]) -> Callable[[], object]:
    question = figure.question
    if isinstance(question, CreatedIn):
        return lambda: question.read(questions, *window)
    return lambda: question.read(questions)


class _Noted(Exception):  # noqa: N818 it is an answer, not an error
    """The command was written down; there is no answer."""


class _Notebook:
    def __init__(self, database: str) -> None:
        self._database = database
        self.lines: list[str] = []

    def reply(self, command: Command, preference: Preference) -> Document:
        return self._note(command, preference)

    def rows(self, command: Command, preference: Preference) -> Sequence[Document]:
        return [self._note(command, preference)]

    def _note(self, command: Command, preference: Preference) -> Document:
        sent = {**command, "$db": self._database, "$readPreference": preference.document}
        self.lines.append(json_util.dumps(sent, json_options=json_util.RELAXED_JSON_OPTIONS))
        raise _Noted


class _Wire:
    def __init__(self, client: Client, database: str, limit: float, *, tls: bool) -> None:
        self._client = client
        self._tls = tls
        self._database = client.get_database(database, codec_options=_CODEC)
        self._limit = limit

    def reply(self, command: Command, preference: Preference) -> Document:
        def send() -> Document:
            return self._database.command(
                dict(command), read_preference=preference, codec_options=_CODEC
            )

        return self._try(send)

    def rows(self, command: Command, preference: Preference) -> Sequence[Document]:
        def send() -> Sequence[Document]:
            with self._database.cursor_command(
                dict(command), read_preference=preference, codec_options=_CODEC, comment=APP_NAME
            ) as cursor:
                return list(cursor)

        return self._try(send)

    def _try(self, send: Callable[[], Answer]) -> Answer:
        with translated(self._client, tls=self._tls), _unobserved():
            if self._limit < _SHORTEST:
                raise TimedOut(f"{TIMED_OUT} before it was asked")
            with pymongo.timeout(self._limit):
                return _twice(send)


def _twice(send: Callable[[], Answer]) -> Answer:
    """Send once more where a connection broke, as the driver does for its own reads."""
    try:
        return send()
    except (NetworkTimeout, ServerSelectionTimeoutError):
        raise
    except AutoReconnect:
        return send()


@contextmanager
def _unobserved() -> Iterator[None]:
    """Keep an application's instrumentation of pymongo from tracing our reads."""
    # The key that `opentelemetry.instrumentation.utils` reads; that package is not needed here.
    token = context.attach(context.set_value("suppress_instrumentation", value=True))
    try:
        yield
    finally:
        context.detach(token)


def _client(url: str, timeout: float, event_listeners: Sequence[Any]) -> Client:
    milliseconds = max(1, int(timeout * _MILLISECONDS))
    # An argument beats the same option of the URL.
    return pymongo.MongoClient(
        _usable(url)[0],
        connect=False,
        appname=APP_NAME,
        event_listeners=list(event_listeners),
        readPreference="secondaryPreferred",
        timeoutMS=milliseconds,
        serverSelectionTimeoutMS=milliseconds,
        connectTimeoutMS=milliseconds,
        socketTimeoutMS=milliseconds,
        waitQueueTimeoutMS=milliseconds,
        minPoolSize=0,
        maxPoolSize=CONNECTIONS,
        maxConnecting=CONNECTIONS,
        serverMonitoringMode="poll",  # one connection less than `stream`
    )


def _usable(url: str) -> tuple[str, tuple[str, ...]]:
    """Take out of a URL what the driver would warn of, with the value in its warning."""
    before, _, query = url.partition("?")
    kept: dict[str, list[str]] = {}
    ignored = []
    for option in filter(None, re.split("[&;]", query)):
        name = option.partition("=")[0]
        key = name.lower()
        if key in _UNWANTED:
            continue
        if not _is_lawful(option, name):
            ignored.append(name)
        elif key == _REPEATED:
            kept.setdefault(key, []).append(option)
        else:
            kept[key] = [option]
    options = "&".join(option for options in kept.values() for option in options)
    return f"{before}?{options}" if options else before, tuple(ignored)


def _is_lawful(option: str, name: str) -> bool:
    try:
        _refuse_pipe(option, name)
        split_options(option, validate=True, warn=False, normalize=False)
    except OSError:
        raise NoConnection(f"the file of the URL's option {name} can't be read") from None
    except (PyMongoError, ValueError, TypeError):
        if _NEVER_IGNORED.match(name) and name.lower() in URI_OPTIONS_VALIDATOR_MAP:
            raise NoConnection(f"the URL's option {name} has no lawful value") from None
        return False
    return True


def _refuse_pipe(option: str, name: str) -> None:
    """Refuse what the driver would open, and wait for whoever writes to it."""
    value = unquote_plus(option.partition("=")[2])
    if name.lower() in _FILES and Path(value).is_fifo():
        raise NoConnection(f"the file of the URL's option {name} is no regular file")


def _resolve(hosts: Sequence[str]) -> None:
    """Look up hosts until one is found; the driver says what is wrong where none is."""
    for host in hosts:
        if host.endswith(".sock"):
            return
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        with suppress(OSError, UnicodeError):
            socket.getaddrinfo(name, DEFAULT_PORT, type=socket.SOCK_STREAM)
            return


def _first_id(second: int) -> ObjectId:
    # An ObjectId begins with the seconds since 1970 in four bytes, big-endian.
    return ObjectId(second.to_bytes(4, "big") + bytes(8))


def _unix_time(value: object) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, DatetimeMS):
        return int(value) / _MILLISECONDS
    raise ReadFailed("the database does not tell its time")
