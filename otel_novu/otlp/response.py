"""What a receiver says, fit to be shown, and why it says nothing."""

import html
import re
import ssl
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import INTERNAL  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from otel_novu.otlp.outcome import Delivered, Outcome, Rejected, Retryable
from otel_novu.settings import Otlp

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
CHECK_TOKEN = "check the token in OTEL_EXPORTER_OTLP_HEADERS"  # noqa: S105 - a hint
SEE_LOG = "see the receiver's log"
PATHS = "/v1/metrics is added to it; a Prometheus has /api/v1/otlp"
_OWN_PATH = "it is used as it is; a Prometheus has /api/v1/otlp/v1/metrics"
LATE = Retryable("no complete answer in time", "OTEL_EXPORTER_OTLP_TIMEOUT sets the limit")

_CERTIFICATE = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
_FILES = f"check OTEL_EXPORTER_OTLP_CERTIFICATE, {_CERTIFICATE} and OTEL_EXPORTER_OTLP_CLIENT_KEY"
_CA = "set OTEL_EXPORTER_OTLP_CERTIFICATE to its authority's PEM file"
PROXY = "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY"
PROXY_LOGIN = "add user name and password to the URL in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
_PORT = f"check {ENDPOINT}: the port is 4318 for HTTP, 4317 for gRPC"
_SCHEME = f"check http:// or https:// in {ENDPOINT}"
_CLOSED = f"{_SCHEME}, the port (4318 for HTTP, 4317 for gRPC), and {_CERTIFICATE}"
# A refused CONNECT, in the words of http.client and of gRPC.
_TUNNEL = re.compile("(?:Tunnel connection failed: |proxy returned response code )([0-9]{3})")
# What to look for in names of exceptions and in what OpenSSL and gRPC say; reason; hint.
_FAULTS = (
    ("FileNotFound|^Permission|IsADir", "a certificate file can't be read", _FILES),
    ("ProxyError|HTTP proxy", "no connection through the proxy", PROXY),
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

PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_KINDS = (PROTOBUF, _JSON, "application/protobuf", "application/octet-stream", "")
_PAGE = Rejected("a web page, not an OTLP response", f"is {ENDPOINT} the collector's address?")
# Some gateways answer 2xx in their own words. They have the report.
_NOT_OTLP = Delivered(message="the response is not OTLP")
_SHORTEST_SECRET = 4  # a tenant's id may be `1`, but not every 1 is secret then
_PIECE = 8  # characters of a longer secret that are as secret: it may be cut off
_JSON_ESCAPE = re.compile(r"""\\(?:u([0-9a-f]{4})|([/"\\]))""", re.IGNORECASE)
_MOST = 2000  # characters that are searched for secrets


def secret_pattern(otlp: Otlp) -> re.Pattern[str]:
    """Return a pattern for the secrets in headers, the endpoint and the proxies' URLs."""
    urls = [otlp.endpoint.reveal(), *getproxies().values()]
    texts = [urlsplit(urls[0]).query, *(value.reveal() for value in otlp.headers.values())]
    texts += [url.rpartition("@")[0].rpartition("//")[2] for url in urls]
    parts = {part for text in texts for part in (text, *text.split(), *re.split("[ :&=]", text))}
    forms = parts.copy()
    for plain in map(unquote, parts):
        # The last character of base64 depends on what follows.
        forms |= {plain, quote(plain, safe="", errors="replace"), _base64(plain).rstrip("=")[:-1]}
    found = {False: ["(?!)"], True: ["(?!)"]}  # by whether it is long
    for form in filter(lambda form: len(form) >= _SHORTEST_SECRET, forms):
        pieces = {form[i : i + _PIECE] for i in range(max(1, len(form) - _PIECE + 1))}
        found[len(form) >= _PIECE] += map(re.escape, pieces)
    short, long = ("|".join(sorted(each, key=len, reverse=True)) for each in found.values())
    # A piece at each position, to the end of the last one.
    return re.compile(f"(?:(?:(?={long}).)+.{{{_PIECE - 1}}}|{short})+", re.IGNORECASE)


def printable(text: str, secret: re.Pattern[str]) -> str:
    """Return at most 200 characters of what a receiver says, *** for its secrets."""
    text = _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
    text = " ".join(unquote(html.unescape(text)).split())
    return secret.sub("***", "".join(filter(str.isprintable, text[:_MOST])))[:200]


def basic_auth(url: str) -> dict[str, str]:
    """Return the `authorization` for user name and password in a URL; empty without them."""
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    token = _base64(f"{unquote(user)}:{unquote(password)}")
    return {"authorization": f"Basic {token}"} if user or password else {}


def request_headers(otlp: Otlp) -> dict[str, str]:
    """Return the headers of the settings, which replace the `authorization` of the endpoint."""
    given = {name.lower(): value.reveal() for name, value in otlp.headers.items()}
    return basic_auth(otlp.endpoint.reveal()) | given


def _base64(text: str) -> str:
    return b64encode(text.encode(errors="surrogateescape")).decode()


def named(outcome: Outcome, otlp: Otlp) -> Outcome:
    """Return the outcome, its hint with the variables that the user has set."""
    if isinstance(outcome, Delivered):
        return outcome
    hint = outcome.hint
    for name, own in otlp.renamed:
        hint = hint.replace(name, own).replace(f"{own}; {PATHS}", f"{own}; {_OWN_PATH}")
    return replace(outcome, hint=hint)


def judge_success(body: bytes, secret: re.Pattern[str], kind: str) -> Delivered | Rejected:
    """Read an ExportMetricsServiceResponse of a media type; an empty body is one."""
    response = metrics_service_pb2.ExportMetricsServiceResponse()
    if "html" in kind or body.lstrip().startswith(b"<"):
        return _PAGE
    if body and kind not in _KINDS:
        return _NOT_OTLP
    try:
        Parse(body, response) if body and kind == _JSON else response.ParseFromString(body)
    except (DecodeError, ParseError, ValueError):
        return _NOT_OTLP
    partial = response.partial_success
    message = printable(partial.error_message, secret)
    return Delivered(max(0, partial.rejected_data_points), message)  # a counter must not fall


def error_message(body: bytes, kind: str) -> str:
    """Return plain text, or the message of a google.rpc.Status; empty for anything else."""
    with suppress(DecodeError):
        if kind == PROTOBUF:
            return str(Status.FromString(body).message)
    return body.decode(errors="replace") if kind == "text/plain" else ""


def is_internal(body: bytes, kind: str) -> bool:
    """Return whether this is a google.rpc.Status INTERNAL: a collector's permanent error."""
    with suppress(DecodeError):
        return kind == PROTOBUF and bool(Status.FromString(body).code == INTERNAL)
    return False


def retry_delay(body: bytes) -> float | None:
    """Return the seconds in the RetryInfo of a google.rpc.Status, or None."""
    info = RetryInfo()
    with suppress(DecodeError):
        if any(detail.Unpack(info) for detail in Status.FromString(body).details):
            return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    return None


class ProxyUrlError(Exception):
    """The variable that the exception names has no URL of a proxy."""


def proxy_for(endpoint: str, *schemes: str) -> str | None:
    """Return the URL of the environment's proxy, of one of the schemes; raise ProxyUrlError."""
    url, proxies = urlsplit(endpoint), getproxies()
    name = url.scheme if proxies.get(url.scheme) else "all"
    # A Unix socket has no host.
    if not url.netloc or not (proxy := proxies.get(name)) or proxy_bypass(url.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    with suppress(ValueError):
        parts = urlsplit(proxy)
        if parts.scheme in schemes and parts.hostname and parts.port != 0:
            return proxy
    raise ProxyUrlError(f"{name.upper()}_PROXY")


def find_fault(signs: str, endpoint: str) -> Retryable:
    """Return the first fault whose pattern is in the text."""
    if refused := _TUNNEL.search(signs):
        reason = f"the proxy does not connect to {urlsplit(endpoint).netloc}: HTTP {refused[1]}"
        return Retryable(reason, PROXY_LOGIN if refused[1] == "407" else PROXY)
    _, reason, hint = next(row for row in _FAULTS if re.search(row[0], signs, re.IGNORECASE))
    return Retryable(reason, hint)


def find_cause(error: BaseException | None, endpoint: str) -> Retryable:
    """Return the fault behind an exception, whose text is not used: it may hold a secret."""
    signs = ""
    if isinstance(error, ProxyUrlError):
        return Retryable(f"{error} is not valid", "http://host:port is expected")
    while error is not None:
        reason = error.reason if isinstance(error, ssl.SSLError) else ""
        refused = _TUNNEL.search(str(error))
        signs += f"{type(error).__name__} {reason} {getattr(error, 'verify_message', '')} "
        signs += refused[0] if refused else ""
        error = error.__cause__ or error.__context__
    return find_fault(signs, endpoint)
