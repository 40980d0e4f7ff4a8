"""The reading of an OTLP answer's body."""

import json

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from otel_novu.delivery.otlp.quote import Quote
from otel_novu.outcome import Delivered

_PARTIAL = ("partialSuccess", "partial_success")


def from_protobuf(body: bytes, quote: Quote) -> Delivered | None:
    """Return what a serialized ExportMetricsServiceResponse says, None where `body` is none."""
    try:
        return _delivered(ExportMetricsServiceResponse.FromString(body), quote)
    except DecodeError:
        return None


def from_json(body: bytes, quote: Quote) -> Delivered | None:
    """Return what an OTLP/JSON answer says, None where `body` is none.

    Unknown fields are allowed, as the protocol demands, but not *only* unknown ones: what any
    other web service answers would do then.
    """
    try:
        document = json.loads(body)
        if not isinstance(document, dict) or (document and not document.keys() & set(_PARTIAL)):
            return None
        response = ParseDict(document, ExportMetricsServiceResponse(), ignore_unknown_fields=True)
    except (ValueError, RecursionError, ParseError):
        return None
    return _delivered(response, quote)


def status_message(body: bytes) -> str:
    """Return the message of a serialized google.rpc.Status, empty where `body` is none."""
    try:
        return str(Status.FromString(body).message)
    except DecodeError:
        return ""


def retry_delay(body: bytes) -> float | None:
    """Return the seconds that the RetryInfo in a serialized google.rpc.Status asks for, or None.

    A negative delay is 0.
    """
    info = RetryInfo()
    try:
        asked = any(detail.Unpack(info) for detail in Status.FromString(body).details)
    except DecodeError:
        return None
    if not asked:
        return None
    return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))


def _delivered(response: ExportMetricsServiceResponse, quote: Quote) -> Delivered:
    partial = response.partial_success
    # The number is the receiver's word, and a negative one would lower a counter.
    return Delivered(max(0, partial.rejected_data_points), quote(partial.error_message))
