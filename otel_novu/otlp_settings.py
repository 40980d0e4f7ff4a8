"""The variables of the OTLP receiver, as OpenTelemetry defines them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_PREFIX = "OTEL_EXPORTER_OTLP_"
_PAIR = re.compile(r"(?:[^=%]|%[0-9A-F]{2})+=(?:[^%]|%[0-9A-F]{2})*", re.IGNORECASE)


class InvalidError(Exception):
    """A value is not valid; the message is a clause that quotes nothing of it."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A text that no log, error or repr shows."""

    _text: str

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "***"


class Protocol(Enum):
    """How OTLP is transported."""

    HTTP = "http/protobuf"
    GRPC = "grpc"


class Compression(Enum):
    """Of a request's body; gRPC has no deflate."""

    NONE = "none"
    GZIP = "gzip"
    DEFLATE = "deflate"


@dataclass(frozen=True, slots=True)
class Otlp:
    """The receiver. The endpoint is the URL to post to, for gRPC http(s)://host:port."""

    protocol: Protocol
    endpoint: Secret
    headers: Mapping[str, Secret]
    timeout: float  # seconds, for one attempt
    compression: Compression
    ca_file: Path | None
    client_certificate: Path | None
    client_key: Path | None  # None: the key is in the certificate's file


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. `unset` is for docs: what no value means where there is no default.

    `parse` raises InvalidError, or ValueError or KeyError. Those are only worth a warning for a
    `lenient` variable, and its default is used.
    """

    name: str
    parse: Callable[[str], Any]
    accepts: str
    help: str
    default: str = ""
    unset: str = "none"
    secret: bool = False
    lenient: bool = False

    @property
    def metrics_name(self) -> str:
        """OpenTelemetry's variant for metrics, which wins; empty where there is none."""
        general = self.name.startswith(_PREFIX) and "_METRICS_" not in self.name
        return self.name.replace(_PREFIX, f"{_PREFIX}METRICS_") if general else ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that set it, the winner first."""
        return (self.metrics_name, self.name) if self.metrics_name else (self.name,)


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
    if 600 <= value < 1000:  # noqa: PLR2004
        raise InvalidError("could be seconds or milliseconds")
    seconds = value if value < 1000 else value / 1000  # noqa: PLR2004
    if not 0.001 <= seconds < 600:  # noqa: PLR2004
        raise InvalidError("is out of range")
    return seconds


def _endpoint(text: str, *, grpc: bool, insecure: bool, general: bool) -> Secret:
    bare = grpc and "://" not in text
    url = urlsplit(f"{'http' if insecure else 'https'}://{text}" if bare else text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise InvalidError("is not http:// or https:// with a host")
    # With a bare / or ? in a password, the rest of it is taken for path or query.
    malformed = "@" in url.path + url.query or re.search("[^!-~]|#", text)
    if malformed or url.port == 0 or url.netloc.endswith(":"):
        raise InvalidError("is not a URL (write / ? # @ in a password as %2F %3F %23 %40)")
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


def _headers(text: str) -> dict[str, Secret]:
    found = {name.lower(): Secret(value.strip()) for name, value in pairs(text).items()}
    names = [re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) for name in found]  # RFC 9110
    if '"' in text or not all(names):
        raise InvalidError("has a quotation mark, or a name that is not a header's")
    return found


def check_file(path: Path) -> Path:
    """Return the path of a regular file that can be read; raise InvalidError or OSError."""
    if not path.is_file():
        raise InvalidError("is not a file")
    path.open("rb").close()
    return path


def _check_pem(certificates: Path | None, key: Path | None = None) -> Path:
    import ssl  # noqa: PLC0415 - slow to load, and few set a certificate

    if certificates is None:
        raise InvalidError(f"is set without {_PREFIX}CLIENT_CERTIFICATE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(check_file(certificates))
        if key is not None:
            # Without a password OpenSSL would ask for one.
            context.load_cert_chain(certificates, check_file(key), password="")
    except ssl.SSLError:
        missing = "certificate" if key is None else "unencrypted key of the certificate"
        raise InvalidError(f"contains no PEM {missing}") from None
    return key or certificates


def _check_compression(value: Compression, protocol: Protocol) -> Compression:
    if protocol is Protocol.GRPC and value is Compression.DEFLATE:
        raise InvalidError("is not available over gRPC")
    return value


def read(get: Callable[..., Any], given: Mapping[str, str], cwd: Path) -> Otlp:
    """Return what `get(name, check)` returns for the variables below."""
    protocol: Protocol = get(f"{_PREFIX}PROTOCOL")
    endpoint = partial(
        _endpoint,
        grpc=protocol is Protocol.GRPC,
        insecure=get(f"{_PREFIX}INSECURE"),
        general=f"{_PREFIX}METRICS_ENDPOINT" not in given,
    )
    default = f"http://localhost:{4317 if protocol is Protocol.GRPC else 4318}"
    get(f"{_PREFIX}METRICS_TEMPORALITY_PREFERENCE")
    certificate = get(f"{_PREFIX}CLIENT_CERTIFICATE", lambda file: _check_pem(cwd / file))
    key = get(f"{_PREFIX}CLIENT_KEY", lambda file: _check_pem(certificate, cwd / file))
    if key is None:  # then the key is in the certificate's file
        get(f"{_PREFIX}CLIENT_CERTIFICATE", lambda file: _check_pem(cwd / file, cwd / file))
    return Otlp(
        protocol=protocol,
        endpoint=get(f"{_PREFIX}ENDPOINT", endpoint) or endpoint(default),
        headers=get(f"{_PREFIX}HEADERS") or {},
        timeout=get(f"{_PREFIX}TIMEOUT"),
        compression=get(f"{_PREFIX}COMPRESSION", lambda it: _check_compression(it, protocol)),
        ca_file=get(f"{_PREFIX}CERTIFICATE", lambda file: _check_pem(cwd / file)),
        client_certificate=certificate,
        client_key=key,
    )


# fmt: off
VARIABLES: tuple[Variable, ...] = (
    Variable("OTEL_EXPORTER_OTLP_PROTOCOL", words({item.value: item for item in Protocol}),
             "http/protobuf or grpc", "How reports are sent.", "http/protobuf", lenient=True),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", str,
             "http://host:port or https://host:port; for gRPC also host:port, and no path",
             "The collector. Over HTTP `/v1/metrics` is appended to the first variable; the second "
             "one is used as it is. For gRPC `host:port` means TLS, unless "
             "`OTEL_EXPORTER_OTLP_INSECURE` is true, and https without a port means 443.",
             unset="`http://localhost:4318`, for gRPC `http://localhost:4317`", secret=True),
    Variable("OTEL_EXPORTER_OTLP_INSECURE", words({"true": True, "false": False}), "true or false",
             "No TLS for a gRPC endpoint without http:// or https://.", "false", lenient=True),
    Variable("OTEL_EXPORTER_OTLP_HEADERS", _headers, "key=value,key2=value2, percent-encoded",
             "Headers of every request, such as a token.", secret=True),
    Variable("OTEL_EXPORTER_OTLP_TIMEOUT", _timeout,
             "seconds below 600, as in OpenTelemetry's Python SDK, or milliseconds from 1000, as "
             "in its specification", "Time limit of one attempt to deliver a report.", "10"),
    Variable("OTEL_EXPORTER_OTLP_COMPRESSION", words({item.value: item for item in Compression}),
             "none, gzip or, over HTTP, deflate", "Compression of requests.", "none", lenient=True),
    Variable("OTEL_EXPORTER_OTLP_CERTIFICATE", path, "the path of a readable PEM file",
             "The certificate authorities to trust.", unset="those of the system"),
    Variable("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", path, "the path of a readable PEM file",
             "The client certificate for mutual TLS."),
    Variable("OTEL_EXPORTER_OTLP_CLIENT_KEY", path, "the path of a readable PEM file",
             "The key of the client certificate.", unset="in the client certificate's file"),
    Variable("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
             words({"cumulative": None, "lowmemory": None}),
             "cumulative or lowmemory (for delta use the collector's cumulativetodelta processor)",
             "Always cumulative here.", "cumulative", lenient=True),
)
