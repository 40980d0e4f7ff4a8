"""The judgement of how a gRPC call to an OTLP receiver ended."""

from dataclasses import dataclass

from otel_novu.delivery.otlp import answers
from otel_novu.delivery.otlp.quote import Quote
from otel_novu.outcome import Later, Outcome, Refused

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# The retryable ones of the OTLP specification, "OTLP/gRPC Response".
_LATER = frozenset(
    {
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
)
_TOKEN = "check the token in OTEL_EXPORTER_OTLP_HEADERS"  # noqa: S105 - advice, no password
_REMEDIES = {
    "UNAUTHENTICATED": _TOKEN,
    "PERMISSION_DENIED": _TOKEN,
    "UNIMPLEMENTED": f"is {_ENDPOINT} the collector's address, and does it take metrics?",
    "UNKNOWN": f"is {_ENDPOINT} the collector's address for gRPC (port 4317)?",
}
# What gRPC's core and grpc-go say where the limit on a message is exceeded.
_TOO_LARGE = "received message larger than max"
# With these words gRPC's core, not a receiver, says that there is no connection.
_OWN_WORDS = ("failed to connect to", "errors resolving", "dns resolution failed", "socket closed")
_UNTRUSTED = (
    "the certificate of {} comes from an authority that is not trusted:"
    " name the authority's PEM file in OTEL_EXPORTER_OTLP_CERTIFICATE"
)
_WRONG_NAME = f"the certificate of {{}} is for another host name: {_ENDPOINT} must use its own"
_CLIENT = (
    "does it want a client certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE), or another one?"
)
# What the core says, in lower case, and what that means to a user; the first that is found.
_MEANINGS = (
    ("hostname verification check failed", _WRONG_NAME),
    ("certificate has expired", "the certificate of {} has expired: renew it, check the clocks"),
    ("certificate_verify_failed", _UNTRUSTED),
    (
        "wrong_version_number",
        f"{{}} does not answer in TLS: should {_ENDPOINT} begin with http://?",
    ),
    (
        "failed parsing http/2",
        "{} does not answer in gRPC: is it the HTTP port (4318), or another server?",
    ),
    ("connection refused", "nothing listens at {}"),
    ("errors resolving", "the name of {} can't be resolved"),
    ("dns resolution failed", "the name of {} can't be resolved"),
    ("handshake", f"TLS with {{}} failed: {_CLIENT}"),
    ("closed", f"{{}} cut the connection: is it a TLS port (https://), or {_CLIENT}"),
    ("reset", "{} cut the connection"),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended.

    Args:
        code: the name of its status code.
        details: what came with the status, from the receiver or gRPC's core.
        answer: the serialized answer where the code is `OK`.
        delay: seconds that a RetryInfo asks for, or None.
    """

    code: str
    details: str
    answer: bytes
    delay: float | None


def judge(ended: Ended, target: str, quote: Quote) -> Outcome:
    """Tell what the end of a call means for the report.

    RESOURCE_EXHAUSTED is "later" without a RetryInfo too, where the specification has it with one
    only: a quota or a full queue passes, the report is kept for days, and 429 over HTTP is no
    different. Not so where the text tells of a message that is too large, as it stays so.

    Args:
        ended: how the call ended.
        target: `host:port` of the collector.
        quote: shows the receiver's words.
    """
    if ended.code == "OK":
        return answers.from_protobuf(ended.answer, quote) or Refused(
            f"answered something that is no OTLP answer: is {_ENDPOINT} the collector's address?"
        )
    if ended.code == "RESOURCE_EXHAUSTED" and _TOO_LARGE in ended.details.lower():
        return Refused(
            "answered RESOURCE_EXHAUSTED: raise the receiver's limit on a message"
            " (max_recv_msg_size_mib of the collector)"
        )
    if ended.code in _LATER:
        return Later(_why(ended, target, quote), ended.delay)
    remedy = _REMEDIES.get(ended.code, "see the receiver's log")
    return Refused(f"{_answered(ended, quote)}: {remedy}")


def _why(ended: Ended, target: str, quote: Quote) -> str:
    if ended.code == "DEADLINE_EXCEEDED":
        return f"no answer from {target} in time"
    details = ended.details.lower()
    if ended.code == "UNAVAILABLE" and details.startswith(_OWN_WORDS):
        for sign, meaning in _MEANINGS:
            if sign in details:
                return meaning.format(target)
    return _answered(ended, quote)


def _answered(ended: Ended, quote: Quote) -> str:
    said = quote(ended.details)
    return f'answered {ended.code} ("{said}")' if said else f"answered {ended.code}"
