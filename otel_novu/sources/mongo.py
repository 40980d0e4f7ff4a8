"""MongoDB's driver: the URL that it accepts, its client, and what its exceptions mean."""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ExecutionTimeout,
    InvalidName,
    InvalidURI,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
)
from pymongo.uri_parser import split_options

from otel_novu.settings import Secret

Document = dict[str, Any]

APP_NAME = "otel-novu"

# `poll` takes one connection less than `stream`.
_CLIENT: dict[str, Any] = {"connect": False, "appname": APP_NAME, "tz_aware": True}
_CLIENT |= {"minPoolSize": 0, "retryReads": True, "serverMonitoringMode": "poll"}
_URL = re.compile(r"(mongodb(?:\+srv)?://|)((?:.*@)?)([^/?]*)/?([^?]*)\??(.*)", re.DOTALL)
# Azure's URLs end in `appName=@account@`; ours replaces it anyway.
_APP_NAME_OPTION = re.compile(r"(?<=[?&;])appname=[^&;]*", re.IGNORECASE)
# A round chooses the servers to read from; its answers are too small to compress.
_UNUSED = {"readpreference", "readpreferencetags", "maxstalenessseconds", "compressors"}
_FORM = (
    "MONGO_URL: is not a valid MongoDB URL; expected mongodb://[user:password@]host[:port]/"
    "[database][?options], special characters in user name and password percent-encoded"
)
_DOCUMENTED = "expected options as in MongoDB's documentation of connection strings"


class MongoUrlError(Exception):
    """`MONGO_URL` can't be used: one sentence without a secret."""


def check_url(url: Secret) -> list[str]:
    """Let the driver check the URL, without a connection or DNS; return warnings.

    Raises:
        MongoUrlError: it can't be used, or an option on TLS or authentication would be ignored.
    """
    database, ignored = open_database(url, 1)
    database.client.close()
    return [f"MONGO_URL: the option {name} is ignored; {_DOCUMENTED}" for name in ignored]


def address(url: Secret) -> str:
    """Return hosts and database of a URL, without credentials and options."""
    _, _, hosts, path, _ = _split(url)
    return f"{hosts}/{_database_name(path)}"


def open_database(url: Secret, timeout: float) -> tuple[Database[Document], list[str]]:
    """Make a client, which connects with its first query; also name the options it ignores.

    Raises:
        MongoUrlError: as `check_url`.
    """
    scheme, credentials, hosts, path, query = _split(url)
    # In a password that is not encoded, / and ? would end the hosts.
    if not scheme or "" in hosts.split(",") or re.search("[/?]", credentials):
        raise MongoUrlError(_FORM)
    options, ignored = _options(query)
    used = f"{scheme}{credentials}{hosts}/{path}?{'&'.join(options)}"
    limit = max(2, int(timeout * 1000))
    limits: dict[str, Any] = {"timeoutMS": limit, "serverSelectionTimeoutMS": limit}
    limits["connectTimeoutMS"] = limit // 2  # of the SRV record and of the TXT record, too
    try:
        client = MongoClient[Document](used, **_CLIENT, **limits)
        return client[_database_name(path)], ignored
    except (InvalidURI, InvalidName, ValueError):
        raise MongoUrlError(_FORM) from None
    except Exception:  # noqa: BLE001 - TLS files raise several types
        message = f"MONGO_URL: has options or files that do not fit together; {_DOCUMENTED}"
        raise MongoUrlError(message) from None


def _split(url: Secret) -> Sequence[str]:
    """Split a URL into scheme, credentials with their @, hosts, path and options."""
    match = _URL.fullmatch(_APP_NAME_OPTION.sub("", url.reveal()))
    return match.groups() if match else [""] * 5


def _database_name(path: str) -> str:
    return unquote_plus(path).partition(".")[0] or "novu-db"


def _options(query: str) -> tuple[list[str], list[str]]:
    """Return the options that the driver can use, and the names of the others."""
    used: dict[str, str] = {}
    ignored = []
    for option in filter(None, re.split("[&;]", query)):
        name = option.partition("=")[0]
        if name.lower() in _UNUSED:
            continue
        try:
            split_options(option)
            used[name.lower()] = option
        except (PyMongoError, ValueError, TypeError, OSError):
            if name.lower().startswith(("tls", "ssl", "auth")):
                message = f"MONGO_URL: the option {name} can't be used; {_DOCUMENTED}"
                raise MongoUrlError(message) from None
            ignored.append(name)
    return [*used.values()], ignored


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a query failed, as a clause; after a fatal one the others would fail, too."""

    reason: str
    fatal: bool = False


TIMED_OUT = Failure("timed out; OTEL_NOVU_QUERY_TIMEOUT may be too short")
_AWAY = "the server can't be reached: "
_LOGIN = "user, password or authSource is wrong"

_BY_CODE = {
    13: Failure("not authorised (code 13): the user needs the role read on the database"),
    18: Failure(f"not authenticated (code 18): {_LOGIN}", fatal=True),
    8000: Failure(f"not authenticated (code 8000): {_LOGIN}", fatal=True),  # Atlas' own
    **dict.fromkeys((50, 202, 262), TIMED_OUT),
    16500: Failure("the server has too much to do (code 16500)"),  # Cosmos DB's own
}
# The driver's monitor clears the causes of its errors: only their text is left to search.
_BY_TEXT = (
    ("certificate has expired", "TLS: the server's certificate is out of date"),
    ("(Hostname|IP address) mismatch", "TLS: the server's certificate is for another host"),
    ("certificate verify failed", "TLS: the server's certificate is not trusted; check tlsCAFile"),
    ("SSL", "TLS: no connection can be made; does the server speak TLS?"),
    (rf"Errno {errno.ECONNREFUSED}\b", f"{_AWAY}it refuses connections"),
    (rf"Errno ({errno.EHOSTUNREACH}|{errno.ENETUNREACH})\b", f"{_AWAY}no route leads to it"),
    (rf"Errno {errno.ENOENT}\b", f"{_AWAY}there is no such socket"),
    (r"Errno -\d|nodename nor servname", f"{_AWAY}its name can't be resolved"),
    ("No .* for replica set", "the server is in no replica set of that name; check replicaSet"),
    ("wire version", "the server is too old for the driver: MongoDB 4.4 or newer is needed"),
)


def failure_of(error: Exception) -> Failure:
    """Translate what a query raised, by type and code: its text can hold a password."""
    if isinstance(error, NetworkTimeout | ExecutionTimeout):
        return TIMED_OUT
    if isinstance(error, OperationFailure):
        return _BY_CODE.get(error.code or 0, Failure(f"the server refused (code {error.code})"))
    if isinstance(error, NotPrimaryError):
        return Failure("the server steps down or starts: no primary is elected yet", fatal=True)
    if isinstance(error, AutoReconnect | ConfigurationError):
        return _connection_failure(error)
    return Failure(f"unexpected {type(error).__name__}")


def _connection_failure(error: Exception) -> Failure:
    text = str(error)
    for pattern, reason in _BY_TEXT:
        if re.search(pattern, text):
            return Failure(reason, fatal=True)
    if re.search("found yet|timed out", text):
        return Failure("timed out: the server does not answer")
    if "match selector" in text:
        return Failure("no server that may be read from answers")
    if type(error.__cause__).__module__.startswith("dns."):
        return Failure(f"{_AWAY}its SRV record can't be resolved", fatal=True)
    return Failure(f"{_AWAY}it closes the connection; does it want TLS?", fatal=True)
