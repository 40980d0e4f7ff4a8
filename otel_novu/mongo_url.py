"""The form of a MongoDB URL: judged and told without secrets, asking neither DNS nor a driver."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

DEFAULT_DATABASE = "novu-db"
DEFAULT_PORT = 27017

_SCHEME = "mongodb://"
_SRV_SCHEME = "mongodb+srv://"
_MAX_PORT = 65535
_MAX_DATABASE_BYTES = 63  # "fewer than 64 bytes": MongoDB's manual, Limits and Thresholds
# An ignored word here would quietly send a password in the clear.
_BOOLEAN_OPTIONS = (
    "tls",
    "ssl",
    "tlsinsecure",
    "tlsallowinvalidcertificates",
    "tlsallowinvalidhostnames",
    "tlsdisableocspendpointcheck",
    "directconnection",
    "loadbalanced",
)
_IMPLIED_BY_TLS_INSECURE = (
    "tlsallowinvalidcertificates",
    "tlsallowinvalidhostnames",
    "tlsdisableocspendpointcheck",
)
_DEFAULT_MECHANISM = "DEFAULT"
_PASSWORD_MECHANISMS = (_DEFAULT_MECHANISM, "SCRAM-", "PLAIN")
_SRV_OPTIONS = ("srvservicename", "srvallowedhostssuffix", "srvmaxhosts")

_HOST = re.compile(r"[^\s\x00-\x1f\x7f/?#@\[\]:,%<>\"\\^`{|}]+")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BAD_IN_DATABASE = re.compile(r'[/\\. "$\x00]')
# Azure Cosmos DB's own URLs end in `appName=@account@`.
_APP_NAME = re.compile(r"(?:^|(?<=[&;]))appname=[^&;]*", re.IGNORECASE)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]")

_ENCODE = (
    "in a user name and a password the characters : / ? # [ ] @ % must be percent-encoded"
    " (@ is %40, / is %2F, : is %3A)"
)
_FORM = "the form is mongodb://user:password@host:27017/novu-db?authSource=admin"


@dataclass(frozen=True, slots=True)
class MongoTarget:
    """What a MongoDB URL points at, nothing of it secret.

    Args:
        hosts: each `host`, `host:port`, `[address]:port` or socket path, as the URL names them.
        database: the URL's path, else `novu-db`.
        srv: the hosts are to be looked up in DNS (`mongodb+srv`).
        tls: an option, or the scheme, asks for TLS.
    """

    hosts: tuple[str, ...]
    database: str
    srv: bool
    tls: bool = False


@dataclass(frozen=True, slots=True)
class _Parts:
    srv: bool
    userinfo: str | None
    hosts: tuple[str, ...]
    path: str
    query: str


def parse_mongo_url(url: str) -> MongoTarget:
    """Judge a MongoDB URL by its form alone.

    It is stricter than MongoDB's connection string format where a slip would be taken for
    something else: a password with a bare `/` for a database, a blank for a host.

    Args:
        url: `mongodb://` or `mongodb+srv://`.

    Raises:
        ValueError: a clause that names the fault and what is accepted, with nothing of the URL
            in it but the names of options.
    """
    parts = _split(url)
    _check_userinfo(parts)
    _check_hosts(parts)
    database = _database(parts)
    options = _options(parts.query)
    _check_options(parts, options)
    _check_password(parts, options)
    tls = options.get("tls", options.get("ssl", "true" if parts.srv else "false")) == "true"
    return MongoTarget(parts.hosts, database, parts.srv, tls)


def check_mongo_url(url: str) -> str | None:
    """Say what is wrong with a MongoDB URL.

    Args:
        url: `mongodb://` or `mongodb+srv://`.

    Returns:
        None where its form is good, else a clause that names the fault and what is accepted,
        such as `its port is no number from 1 to 65535`, and holds no secret.
    """
    try:
        parse_mongo_url(url)
    except ValueError as error:
        return str(error)
    return None


def database_name(url: str) -> str:
    """Tell the database that a good URL names: its path, else `novu-db`.

    Raises:
        ValueError: as `parse_mongo_url`.
    """
    return parse_mongo_url(url).database


def safe_hosts(url: str) -> str:
    """Tell the hosts of a good URL, separated by commas, without user, password and options.

    Raises:
        ValueError: as `parse_mongo_url`.
    """
    return ",".join(parse_mongo_url(url).hosts)


def _split(url: str) -> _Parts:
    if not url.strip():
        raise ValueError(f"it is blank: {_FORM}")
    if url != url.strip():
        raise ValueError("it begins or ends with white space: take that away")
    for scheme in (_SCHEME, _SRV_SCHEME):
        if url.startswith(scheme):
            break
    else:
        raise ValueError("it begins with neither mongodb:// nor mongodb+srv://")
    before, _, query = url.removeprefix(scheme).partition("?")
    authority, _, path = before.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    # What stands before an `@` is a user name or a password, wherever a bare `/` or `?` cuts it.
    if "@" in path or "@" in _APP_NAME.sub("", query):
        raise ValueError(f"it holds an @ behind the hosts: {_ENCODE}")
    return _Parts(
        srv=scheme == _SRV_SCHEME,
        userinfo=userinfo if at else None,
        hosts=tuple(hosts.split(",")),
        path=path,
        query=query,
    )


def _check_userinfo(parts: _Parts) -> None:
    if parts.userinfo is None:
        return
    user, _, password = parts.userinfo.partition(":")
    if not user:
        raise ValueError(f"its user name is empty: {_FORM}")
    if "@" in parts.userinfo or ":" in password or _STRAY_PERCENT.search(parts.userinfo):
        raise ValueError(f"its user name or password is not encoded: {_ENCODE}")


def _check_hosts(parts: _Parts) -> None:
    for host in parts.hosts:
        if not host:
            raise ValueError(f"it names no host, or has a comma too many: {_FORM}")
        if host.endswith(".sock"):
            _check_socket(host)
        elif host.startswith("["):
            _check_address(host)
        else:
            _check_host(host)
    if parts.srv:
        _check_srv(parts.hosts)


def _check_socket(host: str) -> None:
    # Decoded it may hold anything but a colon, which a driver takes for a port.
    if _STRAY_PERCENT.search(host) or _SPACE.search(host) or ":" in unquote_plus(host):
        raise ValueError("its socket path is not percent-encoded: / is %2F")


def _check_address(host: str) -> None:
    address, bracket, port = host[1:].partition("]")
    try:
        ipaddress.IPv6Address(unquote(address))
    except ValueError:
        bracket = ""
    if not bracket or (port and not port.startswith(":")):
        raise ValueError("its IPv6 address is malformed: the form is [::1]:27017")
    if port:
        _check_port(port[1:])


def _check_host(host: str) -> None:
    name, colon, port = host.partition(":")
    if ":" in port:
        raise ValueError(f"its host has two ports, or {_ENCODE}, and an IPv6 address needs [ ]")
    if not _HOST.fullmatch(name):
        raise ValueError("its host is no host name: letters, digits, dots and hyphens are accepted")
    if colon:
        _check_port(port)


def _check_port(port: str) -> None:
    # `isdigit` alone lets superscripts and the digits of other scripts pass.
    digits = port.isascii() and port.isdigit() and len(port) <= len(str(_MAX_PORT))
    if not digits or not 0 < int(port) <= _MAX_PORT:
        hint = "" if port.isascii() and port.isdigit() else f" ({_ENCODE})"
        raise ValueError(f"its port is no number from 1 to {_MAX_PORT}{hint}")


def _check_srv(hosts: tuple[str, ...]) -> None:
    if len(hosts) != 1:
        raise ValueError("it names several hosts: mongodb+srv:// takes one host name")
    host = hosts[0]
    if ":" in host:
        raise ValueError("it names a port or an address: mongodb+srv:// takes a host name alone")
    if host.endswith(".sock") or _is_ipv4(host):
        raise ValueError("it names no host: mongodb+srv:// takes a host name that DNS knows")


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _database(parts: _Parts) -> str:
    if not parts.path:
        return DEFAULT_DATABASE
    name = unquote_plus(parts.path)
    if _BAD_IN_DATABASE.search(name):
        raise ValueError(
            r'its database name holds one of / \ . " $ or a space: one name is accepted behind'
            f" the hosts, and {_ENCODE}"
        )
    if len(name.encode(errors="replace")) > _MAX_DATABASE_BYTES:
        raise ValueError(f"its database name is longer than {_MAX_DATABASE_BYTES} bytes")
    return name


def _options(query: str) -> dict[str, str]:
    """Split a query into options by lower-case name; the last of two with one name counts."""
    if not query:
        return {}
    if _SPACE.search(query):
        raise ValueError("its options hold white space: a space is %20")
    if "&" in query and ";" in query:
        raise ValueError("its options are separated by & and by ; both: use & alone")
    options = {}
    for option in re.split("[&;]", query):
        name, equals, value = option.partition("=")
        if not equals or "=" in value:
            raise ValueError("its options are not all name=value, separated by &")
        options[name.lower()] = unquote_plus(value)
    return options


def _check_options(parts: _Parts, options: dict[str, str]) -> None:
    for name in _BOOLEAN_OPTIONS:
        if options.get(name, "true") not in {"true", "false"}:
            raise ValueError(f"its option {name} is neither true nor false")
    if options.get("ssl", options.get("tls")) != options.get("tls", options.get("ssl")):
        raise ValueError("its options tls and ssl contradict each other: give tls alone")
    if "tlsinsecure" in options and any(name in options for name in _IMPLIED_BY_TLS_INSECURE):
        raise ValueError("its option tlsinsecure implies other tls options: give it alone")
    _check_topology(parts, options)


def _check_password(parts: _Parts, options: dict[str, str]) -> None:
    mechanism = options.get("authmechanism", _DEFAULT_MECHANISM).upper()
    if parts.userinfo is None or not mechanism.startswith(_PASSWORD_MECHANISMS):
        return
    if not parts.userinfo.partition(":")[2]:
        raise ValueError(f"it names a user and no password: {_FORM}")


def _check_topology(parts: _Parts, options: dict[str, str]) -> None:
    direct = options.get("directconnection") == "true"
    balanced = options.get("loadbalanced") == "true"
    if (direct or balanced) and len(parts.hosts) > 1:
        raise ValueError("its option directconnection or loadbalanced takes one host, it has more")
    if direct and (balanced or parts.srv):
        raise ValueError("its option directconnection=true excludes loadbalanced and mongodb+srv")
    if balanced and "replicaset" in options:
        raise ValueError("its option loadbalanced=true excludes replicaset")
    if not parts.srv:
        for name in _SRV_OPTIONS:
            if name in options:
                raise ValueError(f"its option {name} is accepted with mongodb+srv:// only")
