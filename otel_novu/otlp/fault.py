"""Why there is no answer, over HTTP and over gRPC."""

import re
import ssl

from otel_novu.otlp.outcome import Retryable

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
CHECK_TOKEN = "check the token in OTEL_EXPORTER_OTLP_HEADERS"  # noqa: S105 - a hint
LATE = Retryable("no complete answer in time", "OTEL_EXPORTER_OTLP_TIMEOUT sets the limit")

_CERTIFICATE = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
_FILES = f"check OTEL_EXPORTER_OTLP_CERTIFICATE, {_CERTIFICATE} and OTEL_EXPORTER_OTLP_CLIENT_KEY"
_CA = "set OTEL_EXPORTER_OTLP_CERTIFICATE to its authority's PEM file"
_PROXY = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY; http:// or https:// begins a proxy's URL"
_PORT = f"check {ENDPOINT}: the port is 4318 for HTTP, 4317 for gRPC"
_SCHEME = f"check http:// or https:// in {ENDPOINT}"
_CLOSED = f"{_SCHEME}, and {_CERTIFICATE}"
# What to look for in names of exceptions and in what OpenSSL and gRPC say; reason; hint.
_FAULTS = (
    ("FileNotFound|^Permission|IsADir", "a certificate file can't be read", _FILES),
    ("Proxy(Error|Scheme)|HTTP proxy", "no connection through the proxy", _PROXY),
    ("gaierror|resol|LocationParse", "the host name can't be resolved", f"check {ENDPOINT}"),
    ("hostname|IP address", "the certificate is for another host", f"check {ENDPOINT}"),
    ("expired|not yet valid", "the certificate is expired or not yet valid", "check the clocks"),
    ("VERIFY_FAILED", "the certificate is not trusted", _CA),
    ("WRONG_VERSION|HTTP_REQ|RECORD_L|PACKET_L", "the receiver does not speak TLS", _SCHEME),
    ("SSLError|handshake", "TLS failed", _FILES),
    ("BadStatus|UnknownProto|LineToo|HTTP/2|ALPN", "the receiver speaks another protocol", _PORT),
    ("refused", "connection refused", "is the collector running?"),
    ("timeout|timed out", LATE.reason, LATE.hint),
    ("closed|reset|Disconnected|BrokenPipe|Incomplete", "the connection was closed", _CLOSED),
    ("ValueError|Unicode", "a header is not valid", "check OTEL_EXPORTER_OTLP_HEADERS"),
    ("", "no connection", f"check {ENDPOINT} and the network"),
)


def find(signs: str) -> Retryable:
    """Return the first fault whose pattern is in the text."""
    _, reason, hint = next(row for row in _FAULTS if re.search(row[0], signs, re.IGNORECASE))
    return Retryable(reason, hint)


def find_cause(error: BaseException | None) -> Retryable:
    """Return the fault behind an exception, whose text is not used: it may hold a secret."""
    signs = ""
    while error is not None:
        reason = error.reason if isinstance(error, ssl.SSLError) else ""
        signs += f"{type(error).__name__} {reason} {getattr(error, 'verify_message', '')} "
        error = error.__cause__ or error.__context__
    return find(signs)
