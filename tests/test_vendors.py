"""The forms of headers in docs/vendors.md, sent to receivers."""

import re
import socket
from pathlib import Path
from threading import Event

import pytest
from receivers import GrpcSink, HttpSink, answer
from servers import ExporterRunner

DOCS = Path(__file__).parents[1] / "docs"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
# What a receiver must see of each form in the documentation.
SEEN = {
    "Authorization=Basic%20BASE64": {"authorization": "Basic BASE64"},
    "Authorization=Bearer%20TOKEN": {"authorization": "Bearer TOKEN"},
    "Authorization=ApiKey%20KEY": {"authorization": "ApiKey KEY"},
    "api-key=LICENSE_KEY": {"api-key": "LICENSE_KEY"},
    "x-honeycomb-team=KEY,x-honeycomb-dataset=NAME": {
        "x-honeycomb-team": "KEY",
        "x-honeycomb-dataset": "NAME",
    },
    "Dash0-Dataset=NAME": {"dash0-dataset": "NAME"},
    "X-Scope-OrgID=TENANT": {"x-scope-orgid": "TENANT"},
    "api-key=TOKEN": {"api-key": "TOKEN"},
}


def test_every_form_in_the_documentation_is_sent_here() -> None:
    pages = [(DOCS / name).read_text() for name in ("vendors.md", "without-a-collector.md")]
    assert set(re.findall(r"[`']([\w-]+=[A-Z][\w%=,-]*)[`']", "\n".join(pages))) == SEEN.keys()


@pytest.mark.parametrize("form", SEEN)
def test_a_receiver_that_demands_a_header_gets_it(form: str, exporter: ExporterRunner) -> None:
    def demand(connection: socket.socket, ended: Event) -> None:
        passed = SEEN[form].items() <= sink.requests[-1].headers.items()
        answer(200 if passed else 401)(connection, ended)

    env = {"NOVU_TELEMETRY": "off", "OTEL_NOVU_STATE_DIR": str(exporter.home / "state")}
    with HttpSink(demand) as sink:
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.base
        assert exporter("once", env=env | {HEADERS: form}).returncode == 0
        refused = exporter("once", env=env | {HEADERS: "any=TOKEN"})
    assert (refused.returncode, f"check the token in {HEADERS}" in refused.stderr) == (1, True)


@pytest.mark.parametrize("form", SEEN)
def test_the_same_header_is_sent_over_grpc(form: str, exporter: ExporterRunner) -> None:
    env = {"NOVU_TELEMETRY": "off", "OTEL_NOVU_STATE_DIR": str(exporter.home / "state")}
    with GrpcSink() as sink:
        env |= {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        assert exporter("once", env=env | {HEADERS: form}).returncode == 0
    [request] = sink.requests
    assert SEEN[form].items() <= request.metadata.items()
