"""Both scopes as they are sent, compared with a file.

After a wanted change write the file anew, and read the difference before you commit it:

    OTEL_NOVU_WRITE_GOLDEN=1 python -m pytest tests/contract/test_golden.py
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import pytest
from contract.case import Case, each_protocol
from google.protobuf.json_format import MessageToDict
from pymongo.database import Database

pytestmark = pytest.mark.contract

GOLDEN = Path(__file__).parent.parent / "golden" / "reports.json"
WRITE = "OTEL_NOVU_WRITE_GOLDEN"

# What differs from reading to reading, host to host and version to version.
READINGS = {"timeUnixNano", "startTimeUnixNano", "asInt", "asDouble"}
VERSIONS = {"telemetry.sdk.version", "telemetry.distro.version", "os.version"}
ATTRIBUTES = {"service.instance.id", "host.name", *VERSIONS}
ABSENT_WITHOUT_NETWORK = "novu.host.ip"


def blanked(document: Any) -> Any:
    """Replace what differs by its name, and sort points by their attributes."""
    if isinstance(document, list):
        kept = [item for item in document if item.get("key") != ABSENT_WITHOUT_NETWORK]
        return sorted(map(blanked, kept), key=lambda item: json.dumps(item.get("attributes", "")))
    if not isinstance(document, dict):
        return document
    if document.get("key") in ATTRIBUTES:
        return {"key": document["key"], "value": f"<{document['key']}>"}
    if "name" in document and "version" in document:
        return {"name": document["name"], "version": "<version>"}
    return {
        key: f"<{key}>" if key in READINGS else blanked(value) for key, value in document.items()
    }


@each_protocol
def test_what_is_sent_is_the_golden_file_but_for_readings(
    protocol: str, case: Case, database: Database[dict[str, Any]], mongo_url: str
) -> None:
    novu_data.load(database, seed=11, size="small", now=datetime.now(UTC))
    case.read(mongo_url)
    case.env["OTEL_RESOURCE_ATTRIBUTES"] = "service.namespace=shop"
    with case.receive(protocol) as sink:
        once = case("once")
        assert once.returncode == 0, once.stderr
        documents = [MessageToDict(each, use_integers_for_enums=True) for each in sink.reports]
    sent = sorted(map(blanked, documents), key=lambda each: "otel_novu.usage" in str(each))
    if os.environ.get(WRITE):
        GOLDEN.write_text(json.dumps(sent, indent=1) + "\n")
    assert sent == json.loads(GOLDEN.read_text()), f"is it wanted? {WRITE}=1 writes it anew"
