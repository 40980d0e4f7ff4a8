"""The judgement of an HTTP answer to an OTLP request."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from otel_novu.delivery.otlp import answers
from otel_novu.delivery.otlp.quote import Quote
from otel_novu.outcome import Delivered, Later, Outcome, Refused

_PROTOBUF = frozenset({"application/x-protobuf", "application/protobuf"})
# What names no type is read as what OTLP/HTTP must answer to protobuf: protobuf.
_READ_AS_PROTOBUF = _PROTOBUF | {"", "application/octet-stream"}
_SECONDS = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]+)?")
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TOKEN = "check the token in OTEL_EXPORTER_OTLP_HEADERS"  # noqa: S105 - advice, no password
_PATH = (
    "is this the collector's OTLP address?"
    f" /v1/metrics is appended to {_ENDPOINT}, never to OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
)
_REMEDIES = {
    HTTPStatus.BAD_REQUEST: "see the receiver's log",
    HTTPStatus.UNAUTHORIZED: _TOKEN,
    HTTPStatus.FORBIDDEN: _TOKEN,
    HTTPStatus.NOT_FOUND: _PATH,
    HTTPStatus.METHOD_NOT_ALLOWED: _PATH,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: (
        "put the proxy's user name and password into HTTP_PROXY"
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "raise the receiver's limit on a request (max_request_body_size of the collector)"
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "does the receiver take protobuf, and OTEL_EXPORTER_OTLP_COMPRESSION?"
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Args:
        status: the status code.
        headers: by lower-case name.
        body: its first 64 KiB and one byte, as received.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """The media type without parameters, lower-case; empty where there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def judge(answer: Answer, url: str, quote: Quote, now: float) -> Outcome:
    """Tell what `answer` means for the report (OTLP specification, "OTLP/HTTP Response").

    408 and every 5xx count as "later" too, where the specification has 429, 502, 503 and 504
    only: a report that is kept for days may well outlive a fault behind a 500.

    Args:
        answer: what came back.
        url: where the request went to, without secrets.
        quote: shows the receiver's words.
        now: Unix time, seconds.
    """
    status = answer.status
    if status // 100 == 2:  # noqa: PLR2004 - the class of success
        return _judge_success(answer, quote)
    if status // 100 == 3:  # noqa: PLR2004 - the class of redirects
        return _judge_redirect(answer, url, quote)
    told = f"answered {status}{_said(answer, quote)}"
    if _passes_by_itself(status):
        return Later(told, retry_after(answer.headers.get("retry-after"), now))
    return Refused(
        f"{told}: {_REMEDIES.get(HTTPStatus(status), _PATH)}" if _known(status) else told
    )


def retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3).

    Args:
        text: seconds or an HTTP date; the past and negative numbers are 0, nonsense is None.
        now: Unix time, seconds.
    """
    if text is None:
        return None
    if _SECONDS.fullmatch(text.strip()):
        return max(0.0, float(text))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _passes_by_itself(status: int) -> bool:
    return status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or (
        500 <= status < 600  # noqa: PLR2004 - the class of server errors
    )


def _known(status: int) -> bool:
    return status in HTTPStatus.__members__.values()


def _judge_success(answer: Answer, quote: Quote) -> Delivered | Refused:
    if not answer.body:
        return Delivered()
    delivered = None
    if answer.kind in _READ_AS_PROTOBUF:
        delivered = answers.from_protobuf(answer.body, quote)
    elif answer.kind == "application/json":
        delivered = answers.from_json(answer.body, quote)
    if delivered is not None:
        return delivered
    web = "html" in answer.kind or answer.body.lstrip().startswith(b"<")
    what = "a web page" if web else "something that is no OTLP answer"
    return Refused(f"answered {what}: is {_ENDPOINT} the collector's address?")


def _judge_redirect(answer: Answer, url: str, quote: Quote) -> Refused:
    place = _place(answer.headers.get("location", ""), url)
    points = f" and points to {quote(place)}" if place else ""
    return Refused(
        f"answered {answer.status}{points}, and redirects are not followed:"
        f" set {_ENDPOINT} to the collector's own address"
    )


def _place(location: str, url: str) -> str:
    try:
        parts = urlsplit(urljoin(url, location)) if location else urlsplit("")
    except ValueError:
        return ""
    if not parts.netloc:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _said(answer: Answer, quote: Quote) -> str:
    text = ""
    if answer.kind in _PROTOBUF:
        text = answers.status_message(answer.body)
    elif answer.kind == "text/plain":
        text = answer.body.decode(errors="replace")
    elif answer.kind == "application/json":
        text = _json_message(answer.body)
    shown = quote(text)
    return f' ("{shown}")' if shown else ""


def _json_message(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return message if isinstance(message, str) else ""
