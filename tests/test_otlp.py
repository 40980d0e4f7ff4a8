"""The choice of the sender, and what the light start of either protocol loads."""

import subprocess
import sys

import pytest
from receivers import GrpcSink, HttpSink

from otel_novu.delivery.otlp import sender
from otel_novu.outcome import Delivered
from otel_novu.settings import Compression, Otlp, Protocol, Secret


def settings(protocol: Protocol, endpoint: str) -> Otlp:
    return Otlp(protocol, Secret(endpoint), {}, 10.0, Compression.GZIP, None, None, None)


def test_either_protocol_delivers_the_same_bytes() -> None:
    body = b"\x0a\x00" * 100
    with HttpSink() as http, GrpcSink() as grpc:
        for protocol, endpoint in (
            (Protocol.HTTP, http.endpoint),
            (Protocol.GRPC, grpc.endpoint),
        ):
            chosen = sender(settings(protocol, endpoint))
            assert chosen.send(body, 10.0) == Delivered()
            assert chosen.destination == endpoint
        assert http.requests[0].body == grpc.requests[0].body == body


LOADED = """
import sys
from otel_novu.delivery.otlp import sender
from otel_novu.settings import Compression, Otlp, Protocol, Secret
assert not {"grpc", "requests"} & sys.modules.keys()
protocol, endpoint = Protocol(sys.argv[1]), Secret("http://127.0.0.1:1/")
sender(Otlp(protocol, endpoint, {}, 10.0, Compression.NONE, None, None, None)).send(b"", 5.0)
print(*sorted({"grpc", "requests", "urllib3"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("protocol", "loaded"), [(Protocol.HTTP, "requests urllib3"), (Protocol.GRPC, "grpc")]
)
def test_only_the_driver_of_the_protocol_in_use_is_loaded(protocol: Protocol, loaded: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, protocol.value],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout.strip() == loaded
    assert done.stderr == ""
