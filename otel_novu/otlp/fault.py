"""Why there is no answer, over HTTP and over gRPC."""

import re
import ssl

from otel_novu.otlp.outcome import Retryable

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
CHECK_TOKEN = "check the token in OTEL_EXPORTER_OTLP_HEADERS"  # noqa: S105 - a hint
_CA = "OTEL_EXPORTER_OTLP_CERTIFICATE"
_FILES = f"check {_CA}, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY"
_PROXY = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
_PORT = f"check {ENDPOINT}: the port is 4318 for HTTP, 4317 for gRPC"
_SCHEME = f"check http:// or https:// in {ENDPOINT}"
_CLOSED = f"{_SCHEME}, and OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"

LATE = Retryable("no complete answer in time", "OTEL_EXPORTER_OTLP_TIMEOUT sets the limit")
# What to look for in names of exceptions and in what OpenSSL and gRPC say; reason; hint.
_FAULTS = (
    ("^(FileNotFound|Permission|IsADir)", "a certificate file can't be read", _FILES),
    ("ProxySchemeUnknown", "the proxy's URL is not http:// or https://", _PROXY),
    ("ProxyError|HTTP proxy", "no connection through the proxy", _PROXY),
    ("LocationParseError", "the URL is not valid", f"check {ENDPOINT}"),
    ("gaierror|resol", "the host name can't be resolved", f"check {ENDPOINT}"),
    ("hostname|IP address", "the certificate is for another host", f"check {ENDPOINT}"),
    ("expired|not yet valid", "the certificate is expired or not yet valid", "check the clocks"),
    ("VERIFY_FAILED", "the certificate is not trusted", f"set {_CA} to its authority's PEM file"),
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


def find_cause(error: Exception) -> Retryable:
    """Return the fault behind an exception, whose text is not used: it may hold a secret."""
    signs = ""
    cause: BaseException | None = error
    while cause is not None:
        reason = cause.reason if isinstance(cause, ssl.SSLError) else ""
        signs += f"{type(cause).__name__} {reason} {getattr(cause, 'verify_message', '')} "
        cause = cause.__cause__ or cause.__context__
    return find(signs)
