import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compare
import demo
import novu_data
import pytest
from pymongo.database import Database
from servers import ExporterRunner, eventually
from stack import Servers

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.usage import USAGE

pytestmark = pytest.mark.contract


def test_the_table_agrees_after_a_report_and_shows_a_later_change(
    stack: Servers,
    database: Database[dict[str, Any]],
    mongo_url: str,
    instance_id: str,
    exporter: ExporterRunner,
) -> None:
    expected = novu_data.load(database, seed=3, size="small", now=datetime.now(UTC))
    environment = {
        "MONGO_URL": mongo_url,
        "OTEL_NOVU_INSTANCE_ID": instance_id,
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http,
    }
    answers = compare.ask_novu(database)
    assert (answers["totalSteps"], answers["integrationCount"]) == (
        expected.steps,
        expected.providers,
    )

    def verdicts() -> dict[str, str]:
        lines = compare.read_table(database, stack.prometheus, instance_id)
        return {line.series: line.verdict for line in lines}

    missing = verdicts()
    assert set(missing.values()) == {"MISSING", "nothing counted yet"}
    assert len(missing) >= len(BEACON) + len(USAGE) - 1
    assert exporter("once", env=environment).returncode == 0
    eventually(
        lambda: set(verdicts().values()),
        lambda found: "MISSING" not in found and "DIFFERENT" not in found,
    )
    database["integrations"].insert_one({"providerId": "brand-new"})
    assert verdicts()["novu_integration_count{brand-new}"] == "MISSING"
    database["integrations"].update_many({}, {"$set": {"providerId": "novu"}})
    assert verdicts()["novu_integration_count{novu}"] == "DIFFERENT"


def test_the_demo_ends_with_a_table_in_which_everything_agrees(
    stack: Servers, tmp_path: Path
) -> None:
    environment = {**stack.as_variables(), "OTEL_NOVU_CACHE": str(tmp_path), "PATH": "/usr/bin"}
    command = [sys.executable, demo.__file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lines, 0 of them different or missing" in done.stdout
