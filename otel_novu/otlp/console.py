"""Reports on stdout, as OTLP/JSON: `OTEL_METRICS_EXPORTER=console`."""

import json

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_novu.otlp.outcome import Delivered, Outcome, Retryable, Sender


def request_json(body: bytes) -> str:
    """Return a request as one line of OTLP/JSON, which has enumerations as numbers."""
    request = ExportMetricsServiceRequest.FromString(body)
    return json.dumps(MessageToDict(request, use_integers_for_enums=True))


class ConsoleSender:
    """Prints each report once, then passes it on to the receiver, if there is one."""

    def __init__(self, receiver: Sender | None) -> None:
        self._receiver, self._printed = receiver, b""
        self.endpoint = "stdout" if receiver is None else f"stdout and {receiver.endpoint}"

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Print a line and send the report, for at most `timeout` seconds; never raises."""
        if body != self._printed:
            try:
                print(request_json(body), flush=True)  # noqa: T201 - the user asks for it
            except (OSError, ValueError) as error:
                return Retryable(f"stdout can't be written ({type(error).__name__})")
            self._printed = body
        return Delivered() if self._receiver is None else self._receiver.send(body, timeout)
