"""What the driver's exceptions mean, by type and code: their text can hold a password."""

import errno
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from otel_novu.sources.failure import TIMED_OUT, NoConnection, ReadFailed, TimedOut, UnknownCommand

Client = MongoClient[dict[str, Any]]

# Codes of MongoDB: src/mongo/base/error_codes.yml; 8000 is Atlas' own, 16500 Cosmos DB's.
_BY_CODE: Mapping[int | None, tuple[type[ReadFailed], str]] = {
    None: (ReadFailed, "the server refused"),
    13: (ReadFailed, "not authorised (code 13): the user needs the role read on the database"),
    18: (NoConnection, "not authenticated (code 18): user, password or authSource is wrong"),
    8000: (NoConnection, "not authenticated (code 8000): user, password or authSource is wrong"),
    50: (TimedOut, TIMED_OUT),
    202: (TimedOut, TIMED_OUT),
    262: (TimedOut, TIMED_OUT),
    59: (UnknownCommand, "the server does not know the command (code 59)"),
    16500: (ReadFailed, "the server has too much to do (code 16500)"),
}

_AWAY = "the server can't be reached: "
_NO_NAME = _AWAY + "its name can't be resolved"
_REFUSES = _AWAY + "it refuses connections"
_SILENT = f"{TIMED_OUT}: the server does not answer"
_NO_TLS = "TLS: no connection can be made; does the server speak TLS?"

_BY_TEXT = (
    (r"certificate has expired", "TLS: the server's certificate is out of date"),
    (r"(Hostname|IP address) mismatch", "TLS: the server's certificate is for another host"),
    (
        r"certificate verify failed",
        "TLS: the server's certificate is not trusted; is tlsCAFile right?",
    ),
    (r"\[SSL|SSL", _NO_TLS),
    (rf"\[Errno {errno.ECONNREFUSED}\]", _REFUSES),
    (rf"\[Errno ({errno.EHOSTUNREACH}|{errno.ENETUNREACH})\]", _AWAY + "no network leads there"),
    (rf"\[Errno {errno.ENOENT}\]", _AWAY + "there is no such socket"),
    (r"\[Errno -\d+\]|nodename nor servname", _NO_NAME),  # EAI_*: Linux, macOS
    (r"timed out", _SILENT),
)


@contextmanager
def translated(client: Client | None = None, *, tls: bool = False) -> Iterator[None]:
    """Turn whatever is raised inside into a `ReadFailed`.

    Args:
        client: knows why a server can't be reached.
        tls: the server was spoken to in TLS; one that knows none says nothing at all.

    Raises:
        ReadFailed: without the cause, whose text can hold a password.
    """
    try:
        yield
    except ReadFailed:
        raise
    except Exception as error:  # noqa: BLE001 ValueError and OSError are among what is raised
        failure = _failure(error, client)
        if tls and failure.reason == _SILENT:
            failure = type(failure)(f"{_SILENT}; does it speak TLS?")
        raise failure from None


def _failure(error: Exception, client: Client | None) -> ReadFailed:
    for kind, translate in _BY_TYPE:
        if isinstance(error, kind):
            return translate(error, client)
    return ReadFailed(f"unexpected {type(error).__name__}")


def _unreachable(_error: Exception, client: Client | None) -> ReadFailed:
    servers = client.topology_description.server_descriptions().values() if client else ()
    for server in servers:
        if server.error is not None:
            return _broken(server.error, client)
    if not servers or any(server.is_server_type_known for server in servers):
        return NoConnection("no server answers that may be read from: is replicaSet right?")
    return TimedOut(_SILENT)


def _refused(error: Exception, _client: Client | None = None) -> ReadFailed:
    code = error.code if isinstance(error, OperationFailure) else None
    kind, reason = _BY_CODE.get(code, (ReadFailed, f"the server refused (code {code})"))
    return kind(reason)


def _broken(error: BaseException, _client: Client | None) -> ReadFailed:
    """Say why there is no connection, by the first known kind in the chain of causes."""
    cause: BaseException | None = error
    while cause is not None:
        for kind, reason in _CAUSES:
            if isinstance(cause, kind):
                return NoConnection(reason(cause))
        cause = cause.__cause__ or cause.__context__
    return NoConnection(_by_text(str(error)))


def _by_text(text: str) -> str:
    # The driver's monitor clears the cause of what it saw (its PYTHON-2433), so that only the
    # text is left to tell by; it is searched, and none of it is told.
    for pattern, reason in _BY_TEXT:
        if re.search(pattern, text):
            return reason
    return _AWAY + "it closes the connection; does it want TLS?"


def _stepped_down(error: BaseException) -> str:
    details = error.details if isinstance(error, NotPrimaryError) else None
    code = details.get("code") if isinstance(details, Mapping) else None
    told = f" (code {code})" if isinstance(code, int) else ""
    return f"the server steps down or starts{told}: a new primary is being elected"


def _misconfigured(error: BaseException) -> str:
    cause = error.__cause__
    if cause is not None and type(cause).__module__.startswith("dns."):
        return _AWAY + "its SRV record can't be resolved"
    if "wire version" in str(error):
        return "the server's version does not fit the driver: MongoDB 4.4 or newer is needed"
    return "the URL's options do not fit together"


# In both tables the first kind that fits counts: special ones stand before general ones.
_CAUSES: tuple[tuple[type[BaseException], Callable[[BaseException], str]], ...] = (
    (ssl.SSLCertVerificationError, lambda error: _by_text(str(error))),
    (ssl.SSLError, lambda _: _NO_TLS),
    (socket.gaierror, lambda _: _NO_NAME),
    (ConnectionRefusedError, lambda _: _REFUSES),
    (TimeoutError, lambda _: _SILENT),
    (NetworkTimeout, lambda _: _SILENT),
    (NotPrimaryError, _stepped_down),
    (ConfigurationError, _misconfigured),
)

_BY_TYPE: tuple[tuple[type[Exception], Callable[[Exception, Client | None], ReadFailed]], ...] = (
    (ServerSelectionTimeoutError, _unreachable),
    (NetworkTimeout, lambda _error, _client: TimedOut(TIMED_OUT)),
    (ExecutionTimeout, lambda _error, _client: TimedOut(TIMED_OUT)),
    (WaitQueueTimeoutError, lambda _error, _client: TimedOut(TIMED_OUT)),
    (OperationFailure, _refused),
    (AutoReconnect, _broken),
    (ConfigurationError, lambda error, _client: NoConnection(_misconfigured(error))),
    (InvalidOperation, lambda _error, _client: ReadFailed("abandoned, as its round was over")),
    (OSError, _broken),
)
