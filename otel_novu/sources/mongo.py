"""MongoDB's driver: the URL that it accepts, its client, and what its exceptions mean."""

import errno
import re
from typing import Any
from urllib.parse import unquote_plus

from pymongo import MongoClient, errors
from pymongo.database import Database
from pymongo.uri_parser import split_options

from otel_novu.settings import Secret

Document = dict[str, Any]
APP_NAME = "otel-novu"

_HOST = "[^@/?,]+"
# In a password that is not encoded, / and ? would end the hosts: no @ may follow.
_URL = re.compile(
    rf"(mongodb(?:\+srv)?://(?:[^@/?]*@)?)({_HOST}(?:,{_HOST})*)(?:/([^@?]*))?(?:\?([^@]*))?"
)
# Azure's URLs end in `appName=@account@`; the driver warns of compressors that are not installed.
_REMOVED = re.compile("(?<=[?&;])(appname|compressors)=[^&;]*", re.IGNORECASE)
# The options on how to connect. A round decides all else: what to read from, and for how long.
_CONNECT = re.compile("tls|ssl|auth|srv|replicaset|directconnection|loadbalanced", re.IGNORECASE)
_FORM = (
    "MONGO_URL: is not a valid MongoDB URL; expected mongodb://[user:password@]host[:port]/"
    "[database][?options], special characters in user name and password percent-encoded"
)
_DOCUMENTED = "expected options as in MongoDB's documentation of connection strings"


class MongoUrlError(Exception):
    """`MONGO_URL` or one of its options can't be used: a sentence without its full stop."""


def check_url(url: Secret) -> list[str]:
    """Let the driver check the URL, without a connection or DNS; return warnings."""
    database, ignored = open_database(url, 1)
    database.client.close()
    return [f"MONGO_URL: the option {name} is ignored; {_DOCUMENTED}" for name in ignored]


def address(url: Secret) -> str:
    """Return hosts and database of a URL, without credentials and options."""
    _, hosts, path, _ = _split(url)
    return f"{hosts}/{unquote_plus(path).partition('.')[0] or 'novu-db'}"


def open_database(url: Secret, timeout: float) -> tuple[Database[Document], list[str]]:
    """Make a client, which connects with its first query; also name the options it ignores."""
    login, hosts, path, query = _split(url)
    options, ignored = _options(query)
    limit = max(2, int(timeout * 1000))
    try:
        client = MongoClient[Document](
            f"{login}{hosts}/{path}?{'&'.join(options)}",
            appname=APP_NAME,
            connect=False,
            connectTimeoutMS=limit // 2,  # of the SRV record and of the TXT record, too
            serverMonitoringMode="poll",  # it takes one connection less than `stream`
            serverSelectionTimeoutMS=limit,
            timeoutMS=limit,
        )
        return client.get_default_database("novu-db"), ignored
    except (errors.InvalidURI, errors.InvalidName, ValueError):
        raise MongoUrlError(_FORM) from None
    except Exception:  # noqa: BLE001 - TLS files raise several types
        message = f"MONGO_URL: has options or files that do not fit together; {_DOCUMENTED}"
        raise MongoUrlError(message) from None


def _split(url: Secret) -> tuple[str, ...]:
    """Split a URL into scheme with credentials, hosts, path and options; empty if it is odd."""
    match = _URL.fullmatch(_REMOVED.sub("", url.reveal()))
    return match.groups("") if match else ("",) * 4


def _options(query: str) -> tuple[list[str], list[str]]:
    """Return the options on how to connect, and the names of those that the driver ignores."""
    used: dict[str, str] = {}
    ignored = []
    for option in filter(None, re.split("[&;]", query)):
        name = option.partition("=")[0]
        connects = _CONNECT.match(name)
        try:
            split_options(option)
        except (errors.PyMongoError, ValueError, TypeError, OSError):
            if connects:
                message = f"MONGO_URL: the option {name} can't be used; {_DOCUMENTED}"
                raise MongoUrlError(message) from None
            ignored.append(name)
        if connects:
            used[name.lower()] = option
    return [*used.values()], ignored


class QueryError(Exception):
    """A query was not sent, or its answer can't be used: the reason as a clause."""


TIMED_OUT = "timed out; OTEL_NOVU_QUERY_TIMEOUT may be too short"
_AWAY = "the server can't be reached: "
_LOGIN = "user, password or authSource is wrong"
_BY_CODE = {
    13: "not authorised (code 13): the user needs the role read on the database",
    18: f"not authenticated (code 18): {_LOGIN}",
    8000: f"not authenticated (code 8000): {_LOGIN}",  # Atlas' own
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
    ("DNS|nameservers|resolution", f"{_AWAY}its SRV record can't be resolved"),
    ("No .* for replica set", "the server is in no replica set of that name; check replicaSet"),
    ("wire version", "the server is too old for the driver: MongoDB 4.4 or newer is needed"),
    ("must be installed|requires pymongo", "a Python package that authMechanism needs is missing"),
    ("full error", "the server steps down or starts: no primary is elected yet"),
    ("found yet|timed out|match selector", "timed out: the server does not answer"),
    ("", f"{_AWAY}it closes the connection; does it want TLS?"),
)


def reason_of(error: Exception) -> str:
    """Say as a clause why a query failed, by type and code: the text can hold a password."""
    if isinstance(error, MongoUrlError | QueryError):
        return str(error)
    if isinstance(error, errors.NetworkTimeout | errors.ExecutionTimeout):
        return TIMED_OUT
    if isinstance(error, errors.OperationFailure):
        return _BY_CODE.get(error.code or 0, f"the server refused (code {error.code})")
    if isinstance(error, errors.AutoReconnect | errors.ConfigurationError):
        text = str(error)
        return next(reason for pattern, reason in _BY_TEXT if re.search(pattern, text))
    return f"unexpected {type(error).__name__}"
