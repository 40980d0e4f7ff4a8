"""Both scopes whole, as they leave: held against a file, and against what `show --otlp` prints.

After a wanted change write the file anew, and read the difference before it is committed:

    OTEL_NOVU_WRITE_GOLDEN=1 python -m pytest tests/integration/test_golden.py
"""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import pytest
from google.protobuf.json_format import MessageToDict
from pymongo.database import Database
from receivers import GrpcSink, HttpSink
from servers import ExporterRunner
from stack import Servers

GOLDEN = Path(__file__).parent.parent / "golden" / "reports.json"
WRITE = "OTEL_NOVU_WRITE_GOLDEN"

# What differs from reading to reading, host to host and version to version, by its key.
READINGS = {"timeUnixNano", "startTimeUnixNano", "asInt", "asDouble"}
PLACES = {"service.instance.id", "telemetry.sdk.version"}
HOST = {"host.name", "os.version"}
# Absent on a host without a network.
PERHAPS = {"key": "novu.host.ip"}


@pytest.fixture
def environment(
    stack: Servers,
    database: Database[dict[str, Any]],
    mongo_url: str,
    state_dir: Path,
    instance_id: str,
) -> Mapping[str, str]:
    novu_data.load(database, seed=11, size="small", now=datetime.now(UTC))
    stack.analyze(database.name)
    return {
        "MONGO_URL": mongo_url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop",
    }


def blanked(document: Any) -> Any:
    """Replace what a reading brings by its key's name, and sort points by their attributes."""
    if isinstance(document, list):
        certain = [item for item in document if not _is_perhaps(item)]
        return sorted(map(blanked, certain), key=_attributes_of)
    if not isinstance(document, dict):
        return document
    if document.get("key") in PLACES | HOST:
        return {"key": document["key"], "value": f"<{document['key']}>"}
    if "name" in document and "version" in document:
        return {"name": document["name"], "version": "<version>"}
    return {
        key: f"<{key}>" if key in READINGS else blanked(value) for key, value in document.items()
    }


def _is_perhaps(item: Any) -> bool:
    return isinstance(item, dict) and item.items() >= PERHAPS.items()


def _attributes_of(item: Any) -> str:
    return json.dumps(item.get("attributes", "")) if isinstance(item, dict) else ""


def sent(sink: HttpSink | GrpcSink) -> list[Any]:
    """What a sink received, the beacon first."""
    documents = [MessageToDict(each, use_integers_for_enums=True) for each in sink.reports]
    return sorted(map(blanked, documents), key=_scope)


def _scope(document: Any) -> str:
    return str(document["resourceMetrics"][0]["scopeMetrics"][0]["scope"]["name"])


def previewed(exporter: ExporterRunner, environment: Mapping[str, str]) -> Iterator[Any]:
    shown = exporter("show", "--otlp", env=environment)
    assert shown.returncode == 0, shown.stderr
    return (blanked(json.loads(line)) for line in shown.stdout.splitlines())


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_is_shown_and_what_is_sent_are_the_golden_file_but_for_times_and_readings(
    protocol: str, environment: Mapping[str, str], exporter: ExporterRunner
) -> None:
    shown = list(previewed(exporter, environment))
    with GrpcSink() if protocol == "grpc" else HttpSink() as sink:
        target = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
        }
        once = exporter("once", env={**environment, **target})
        assert once.returncode == 0, once.stderr
        left = sent(sink)
    if os.environ.get(WRITE):
        GOLDEN.write_text(json.dumps(left, indent=1) + "\n")
    assert left == json.loads(GOLDEN.read_text()), f"is it wanted? {WRITE}=1 writes it anew"
    assert shown == left
