"""The variables of the OTLP receiver, as OpenTelemetry defines them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_PREFIX = "OTEL_EXPORTER_OTLP_"
_PAIR = re.compile(r"(?:[^=%]|%[0-9A-F]{2})+=(?:[^%]|%[0-9A-F]{2})*", re.IGNORECASE)
_RESERVED = re.compile("connection|content-(encoding|length|type)|host|te|transfer-encoding")
_GRPC_HEADER = re.compile("[0-9a-z_.-]+: [ -~]*")
_SHORTEST, _MOST_SECONDS, _LEAST_MILLISECONDS = 0.001, 600, 1000


class InvalidError(Exception):
    """A value is not valid; the clause quotes nothing of it.

    `rest` is the part that is valid. `fatal`: a warning is not enough for any variable.
    """

    def __init__(self, clause: str, rest: object = None, *, fatal: bool = False) -> None:
        super().__init__(clause)
        self.rest, self.fatal = rest, fatal


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no log, error or repr shows."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """Return the text."""
        return self._text


class Protocol(Enum):
    """How OTLP is transported."""

    HTTP = "http/protobuf"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class Otlp:
    """The receiver.

    The endpoint is the URL to post to, for gRPC http(s)://host:port or unix:///path.
    """

    protocol: Protocol
    endpoint: Secret
    headers: Mapping[str, Secret]
    timeout: float  # seconds, for one attempt
    gzip: bool
    ca_file: Path | None
    client_certificate: Path | None
    client_key: Path | None  # None: the key is in the certificate's file
    # The names of variables, and those for metrics that are set in their place.
    renamed: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable; docs/settings.md says what it is for.

    `parse` raises InvalidError, ValueError or KeyError. For a `lenient` variable, which other
    programs may read too, that is a warning, and the valid part or the default is used.
    """

    name: str
    parse: Callable[[str], Any]
    accepts: str
    default: str = ""
    secret: bool = False
    lenient: bool = False
    field: str = ""  # of Settings; empty where a value depends on more than this variable

    @property
    def names(self) -> tuple[str, ...]:
        """The names that set it; OpenTelemetry's variant for metrics is the first, and wins."""
        if not self.name.startswith(_PREFIX) or "_METRICS_" in self.name:
            return (self.name,)
        return (self.name.replace(_PREFIX, f"{_PREFIX}METRICS_"), self.name)


def words(meanings: Mapping[str, Any]) -> Callable[[str], Any]:
    """Return a parser of words in any case."""
    return lambda text: meanings[text.lower()]


def path(text: str) -> Path:
    """Read a path, and refuse a file's content in its place."""
    if "://" in text or text.startswith(("~", "-----BEGIN")):
        raise InvalidError("is not a path")
    return Path(text)


def _timeout(text: str) -> float:
    value = float(text)
    if _MOST_SECONDS <= value < _LEAST_MILLISECONDS:
        raise InvalidError("could be seconds or milliseconds", fatal=True)
    seconds = value if value < _LEAST_MILLISECONDS else value / 1000
    if not _SHORTEST <= seconds < _MOST_SECONDS:
        raise InvalidError("is out of range")
    return seconds


def _endpoint(text: str, *, grpc: bool, insecure: bool, general: bool) -> Secret:
    if grpc and re.fullmatch(r"unix:///(?!.*[?#])[!-~]+", text):
        return Secret(text)
    text = re.sub("^dns:///(?!.*://)", "", text) if grpc else text  # as gRPC itself takes it
    bare = grpc and "://" not in text
    url = urlsplit(f"{'http' if insecure else 'https'}://{text}" if bare else text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise InvalidError("is not http:// or https:// with a host")
    # With a bare / or ? in a password, the rest of it is taken for path or query.
    malformed = "@" in url.path + url.query or re.search("[^!-~]|#", text)
    empty_label = re.search(r"(^|\.)\.", url.hostname)
    if malformed or empty_label or url.port == 0 or url.netloc.endswith(":"):
        hint = " (write / ? # @ in a password as %2F %3F %23 %40)" if "@" in text else ""
        raise InvalidError(f"is not a URL{hint}")
    if not grpc:
        path = f"{url.path.rstrip('/')}/v1/metrics" if general else url.path or "/"
        return Secret(url._replace(path=path).geturl())
    if "@" in url.netloc or url.path.strip("/") or url.query:
        raise InvalidError("has a user name, a path or a query, which gRPC can't send")
    if url.port is None and url.scheme == "http":
        raise InvalidError("has no port")
    return Secret(f"{url.scheme}://{url.netloc}{'' if url.port else ':443'}")


def pairs(text: str) -> dict[str, str]:
    """Return `key=value,key2=value2`, percent-decoded; of a repeated key the last value."""
    found = {}
    for position, item in enumerate(text.split(","), start=1):
        # What is not UTF-8 becomes surrogates, which are not printable.
        parts = [unquote(part.strip(), errors="surrogateescape") for part in item.partition("=")]
        if parts[0] and _PAIR.fullmatch(item) and "".join(parts).isprintable():
            found[parts[0]] = parts[2]
        elif item.strip():
            raise InvalidError(f"has no valid key=value in item {position}")
    return found


def _headers(text: str, *, grpc: bool) -> dict[str, Secret]:
    found = {name.lower(): value.strip() for name, value in pairs(text).items()}
    for name in filter(_RESERVED.fullmatch, found):
        raise InvalidError(f"sets {name}, which otel-novu sets itself")
    names = [re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) for name in found]  # RFC 9110
    if '"' in text or not all(names):
        raise InvalidError("has a quotation mark, or a name that is not a header's")
    if grpc and any(name.endswith("-bin") for name in found):
        raise InvalidError("has a name that ends in -bin, which gRPC keeps for binary values")
    if grpc and not all(_GRPC_HEADER.fullmatch(f"{name}: {found[name]}") for name in found):
        raise InvalidError("has a value that is not ASCII, or a name that gRPC can't send")
    return {name: Secret(value) for name, value in found.items()}


def _check_pem(certificates: Path | None, key: Path | None = None) -> Path:
    import ssl  # noqa: PLC0415 - slow to load, and few set a certificate

    if certificates is None:
        raise InvalidError(f"is set without {_PREFIX}CLIENT_CERTIFICATE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(certificates)
        if key is not None:
            # Without a password OpenSSL would ask for one.
            context.load_cert_chain(certificates, key, password="")
    except ssl.SSLError:
        missing = "certificate" if key is None else "unencrypted key of the certificate"
        raise InvalidError(f"contains no PEM {missing}") from None
    return key or certificates


def read(get: Callable[..., Any], given: Mapping[str, str], cwd: Path) -> Otlp:
    """Return what `get(name, check)` returns for the variables below."""
    protocol: Protocol = get(f"{_PREFIX}PROTOCOL")
    grpc = protocol is Protocol.GRPC
    general = f"{_PREFIX}METRICS_ENDPOINT" not in given
    endpoint = partial(_endpoint, grpc=grpc, insecure=get(f"{_PREFIX}INSECURE"), general=general)
    get(f"{_PREFIX}METRICS_TEMPORALITY_PREFERENCE")
    certificate = get(f"{_PREFIX}CLIENT_CERTIFICATE", lambda file: _check_pem(cwd / file))
    key = get(f"{_PREFIX}CLIENT_KEY", lambda file: _check_pem(certificate, cwd / file))
    if key is None:  # then the key is in the certificate's file
        get(f"{_PREFIX}CLIENT_CERTIFICATE", lambda file: _check_pem(cwd / file, cwd / file))
    return Otlp(
        protocol=protocol,
        endpoint=get(f"{_PREFIX}ENDPOINT", endpoint)
        or endpoint(f"http://localhost:{4317 if grpc else 4318}"),
        headers=get(f"{_PREFIX}HEADERS", partial(_headers, grpc=grpc)) or {},
        timeout=get(f"{_PREFIX}TIMEOUT"),
        gzip=get(f"{_PREFIX}COMPRESSION"),
        ca_file=get(f"{_PREFIX}CERTIFICATE", lambda file: _check_pem(cwd / file)),
        client_certificate=certificate,
        client_key=key,
        renamed=tuple((row.name, row.names[0]) for row in VARIABLES if row.names[0] in given),
    )


BOOLEAN = words({"true": True, "false": False})
_PEM = "the path of a readable PEM file"
# fmt: off
VARIABLES: tuple[Variable, ...] = (
    Variable("OTEL_EXPORTER_OTLP_PROTOCOL", lambda text: Protocol(text.lower()),
             "http/protobuf or grpc", "http/protobuf", lenient=True),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", str,
             "http://host:port or https://host:port; for gRPC without a path, or host:port, "
             "dns:///host:port or unix:///path",
             secret=True),
    Variable("OTEL_EXPORTER_OTLP_INSECURE", BOOLEAN, "true or false", "false", lenient=True),
    Variable("OTEL_EXPORTER_OTLP_HEADERS", str, "key=value,key2=value2, percent-encoded",
             secret=True),
    Variable("OTEL_EXPORTER_OTLP_TIMEOUT", _timeout,
             "seconds from 0.001 to below 600, as in OpenTelemetry's Python SDK, or milliseconds "
             "from 1000 to below 600000, as in its specification", "10", lenient=True),
    Variable("OTEL_EXPORTER_OTLP_COMPRESSION", words({"none": False, "gzip": True}),
             "none or gzip", "none", lenient=True),
    Variable("OTEL_EXPORTER_OTLP_CERTIFICATE", path, _PEM),
    Variable("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", path, _PEM),
    Variable("OTEL_EXPORTER_OTLP_CLIENT_KEY", path, _PEM),
    Variable("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
             words({"cumulative": None, "lowmemory": None}),
             "cumulative or lowmemory (for delta use the collector's cumulativetodelta processor)",
             "cumulative", lenient=True),
)
# fmt: on
