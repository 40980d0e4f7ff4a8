"""MongoDB's driver: the URL that it accepts, its client, and what its exceptions mean."""

import errno
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote

import pymongo
from pymongo import MongoClient, errors
from pymongo.database import Database
from pymongo.uri_parser import split_options

from otel_novu.settings import Secret

Document = dict[str, Any]
_Address = tuple[str, int | None]
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
# The driver would decode it as a space, as Novu's does in the options only (decodeURIComponent).
_PLUS = re.compile(r"\+(?!srv://)")
_FORM = (
    "expected mongodb://[user:password@]host[:port]/[database][?options], special characters in "
    "user name and password percent-encoded"
)
_PORT = "has a port that is not a number from 1 to 65535"
_PEM = "expected the path of a PEM file"
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
    return f"{hosts}/{unquote(path).partition('.')[0] or 'novu-db'}"


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
            # Of the SRV and TXT records, too; less than the first query has, to learn its cause.
            connectTimeoutMS=limit // 3,
            serverMonitoringMode="poll",  # it takes one connection less than `stream`
            serverSelectionTimeoutMS=limit,
            timeoutMS=limit,
        )
        return client.get_default_database("novu-db"), ignored
    except (errors.InvalidURI, errors.InvalidName, ValueError) as error:
        fault = _PORT if str(error).startswith("Port ") else "is not a valid MongoDB URL"
        raise MongoUrlError(f"MONGO_URL: {fault}; {_FORM}") from None
    except Exception:  # noqa: BLE001 - TLS files raise several types
        message = f"MONGO_URL: has options or files that do not fit together; {_DOCUMENTED}"
        raise MongoUrlError(message) from None


def _split(url: Secret) -> tuple[str, ...]:
    """Split a URL into scheme with credentials, hosts, path and options; empty if it is odd."""
    match = _URL.fullmatch(_REMOVED.sub("", url.reveal()))
    *place, query = match.groups("") if match else ("",) * 4
    return *(_PLUS.sub("%2B", part) for part in place), query


def _options(query: str) -> tuple[list[str], list[str]]:
    """Return the options on how to connect, and the names of those that the driver ignores."""
    used: dict[str, str] = {}
    values: dict[str, Any] = {}
    ignored = []
    for option in filter(None, re.split("[&;]", query)):
        name = option.partition("=")[0]
        connects = _CONNECT.match(name)
        try:
            values |= split_options(option)
        except OSError as error:
            fault = f"names a file that can't be read ({os.strerror(error.errno or 0)})"
            raise MongoUrlError(f"MONGO_URL: the option {name} {fault}; {_PEM}") from None
        except (errors.PyMongoError, ValueError, TypeError):
            if connects:
                message = f"MONGO_URL: the option {name} can't be used; {_DOCUMENTED}"
                raise MongoUrlError(message) from None
            ignored.append(name)
        if connects:
            used[name.lower()] = option
    _check_pem(values)
    return [*used.values()], ignored


def _check_pem(options: Mapping[str, Any]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    fault = "tlsCAFile names a file that contains no PEM certificate"
    try:
        if path := options.get("tlscafile"):
            context.load_verify_locations(path)
        fault = "tlsCertificateKeyFile names a file without a PEM certificate and its key, or "
        fault += "tlsCertificateKeyFilePassword does not open it"
        if path := options.get("tlscertificatekeyfile"):
            # Without a password OpenSSL would ask for one.
            password = options.get("tlscertificatekeyfilepassword", "")
            context.load_cert_chain(path, password=password)
    except ssl.SSLError:
        raise MongoUrlError(f"MONGO_URL: the option {fault}; {_PEM}") from None


class QueryError(Exception):
    """A query was not sent, or its answer can't be used: the reason as a clause."""


TIMED_OUT = "timed out; OTEL_NOVU_QUERY_TIMEOUT may be too short"
_AWAY = "the server can't be reached: "
_LOGIN = "user, password or authSource is wrong; in a compose file, write $ as $$"
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
    ("replica set named? ", "the server is in no replica set of that name; check replicaSet"),
    ("wire version", "the server is too old for the driver: MongoDB 4.4 or newer is needed"),
    ("must be installed|requires pymongo", "a Python package that authMechanism needs is missing"),
    ("full error", "the server steps down or starts: no primary is elected yet"),
    (r"timed out \(configured timeouts: timeoutMS", TIMED_OUT),  # pymongo before 4.18
    ("match selector", "the server answers, but can't be read; is its replica set initiated?"),
    ("found yet|timed out", "timed out: the server does not answer"),
    ("", f"{_AWAY}it closes the connection; does it want TLS?"),
)


@contextmanager
def connected(url: Secret, timeout: float) -> Iterator[Database[Document]]:
    """Open a database, and close its client; QueryError: no server can be read."""
    database, _ = open_database(url, timeout)
    # The members behind an SRV record are not known yet.
    known = None if "+srv://" in _split(url)[0] else _servers(database)
    try:
        yield database
    except errors.ServerSelectionTimeoutError as error:
        found = _servers(database)
        named = {} if known is None else {each: found[each] for each in found.keys() - known}
        raise QueryError(_unreached(named) if named else reason_of(error)) from None
    finally:
        with suppress(errors.PyMongoError), pymongo.timeout(0.5):
            database.client.close()


def _servers(database: Database[Document]) -> dict[_Address, Exception | None]:
    found = database.client.topology_description.server_descriptions()
    return {address: server.error for address, server in found.items()}


def _by_text(text: str) -> str:
    return next(reason for pattern, reason in _BY_TEXT if re.search(pattern, text))


def _unreached(members: Mapping[_Address, Exception | None]) -> str:
    """Say which members a server named that are not in the URL, and why the first one fails."""
    names = ", ".join(f"{host}:{port}" for host, port in sorted(members))
    text = str(members[min(members)] or "found yet")
    return (
        f"the server answered, but {names} of its replica set can't be reached "
        f"({_by_text(text).removeprefix(_AWAY)}); correct that, or name one server and add "
        "directConnection=true"
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
        return _by_text(str(error))
    return f"unexpected {type(error).__name__}"
