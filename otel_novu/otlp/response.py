"""What a receiver says: read, and fit to be shown."""

import re
from base64 import b64encode
from contextlib import suppress
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from otel_novu.otlp.fault import ENDPOINT
from otel_novu.otlp.outcome import Delivered, Rejected
from otel_novu.settings import Otlp

PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_KINDS = (PROTOBUF, _JSON, "application/protobuf", "application/octet-stream", "")
_NOT_OTLP = Rejected("not an OTLP response", f"is {ENDPOINT} the collector's address?")
_SHORTEST_SECRET = 4  # a tenant's id may be `1`, but not every 1 is secret then


def secret_pattern(otlp: Otlp) -> re.Pattern[str]:
    """Return a pattern for the secrets in headers, the endpoint and the proxies' URLs."""
    urls = [otlp.endpoint.reveal(), *getproxies().values()]
    texts = [urlsplit(urls[0]).query, *(value.reveal() for value in otlp.headers.values())]
    texts += [url.rpartition("@")[0].rpartition("//")[2] for url in urls]
    parts = {part for text in texts for part in (text, *re.split("[ :&=]", text))}
    forms = parts.copy()
    for plain in map(unquote, parts):
        # The last character of base64 depends on what follows.
        forms |= {plain, quote(plain, safe="", errors="replace"), _base64(plain).rstrip("=")[:-1]}
    longest_first = sorted(forms, key=len, reverse=True)
    words = [re.escape(form) for form in longest_first if len(form) >= _SHORTEST_SECRET]
    return re.compile("|".join(words) or "(?!)", re.IGNORECASE)


def printable(text: str, secret: re.Pattern[str]) -> str:
    """Return at most 200 characters of what a receiver says, *** for its secrets."""
    text = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return secret.sub("***", text)[:200]


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


def judge_success(body: bytes, secret: re.Pattern[str], kind: str) -> Delivered | Rejected:
    """Read an ExportMetricsServiceResponse of a media type; an empty body is one."""
    response = metrics_service_pb2.ExportMetricsServiceResponse()
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


def retry_delay(body: bytes) -> float | None:
    """Return the seconds in the RetryInfo of a google.rpc.Status, or None."""
    info = RetryInfo()
    with suppress(DecodeError):
        if any(detail.Unpack(info) for detail in Status.FromString(body).details):
            return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    return None
