"""examples/embed.py as a process, through the real collector into the real Prometheus."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compare
import novu_data
import pytest
from pymongo.database import Database
from servers import ExporterRunner, PrometheusClient
from stack import Servers

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "embed.py"


@pytest.fixture
def example(tmp_path: Path) -> ExporterRunner:
    return ExporterRunner(tmp_path, (sys.executable, str(EXAMPLE)))


def test_the_example_shows_both_tables_under_the_applications_name(
    stack: Servers,
    database: Database[dict[str, Any]],
    mongo_url: str,
    instance_id: str,
    example: ExporterRunner,
    prometheus: PrometheusClient,
) -> None:
    novu_data.load(database, seed=9, size="small", now=datetime.now(UTC))
    stack.analyze(database.name)
    running = example.start(
        env={
            "MONGO_URL": mongo_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http,
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={instance_id}",
        }
    )
    try:
        series = f'novu_user_count{{job="my-application",instance="{instance_id}"}}'
        [users] = prometheus.eventually(series)
        assert users.value == compare.ask_novu(database)["userCount"]
        [enabled] = prometheus.eventually(f'novu_usage_enabled{{instance="{instance_id}"}}')
        assert enabled.value == 1
        assert running.terminate() == 0
        assert "Traceback" not in "\n".join(running.stderr)
    finally:
        example.close()
