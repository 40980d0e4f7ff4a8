"""Fixtures of the contract tests."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import pytest
from contract.case import Case
from pymongo.database import Database
from receivers import HttpSink
from servers import ExporterRunner
from stack import Servers


@pytest.fixture
def case(exporter: ExporterRunner, state_dir: Path, sink: HttpSink) -> Case:
    """An exporter of the beacon alone, every second."""
    env = {"OTEL_METRIC_EXPORT_INTERVAL": "1000", "NOVU_TELEMETRY": "off"}
    case = Case(exporter, state_dir, sink, env | {"OTEL_NOVU_STATE_DIR": str(state_dir)})
    case.send_to(sink)
    return case


@pytest.fixture
def expected(stack: Servers, database: Database[dict[str, Any]]) -> novu_data.Expected:
    """Novu-shaped data in the test's database, its counts up to date."""
    counts = novu_data.load(database, seed=7, size=50, now=datetime.now(UTC))
    stack.analyze(database.name)
    return counts


@pytest.fixture
def novu(case: Case, expected: novu_data.Expected, mongo_url: str) -> Case:
    """An exporter of both scopes, and data in its database."""
    assert expected.documents
    case.read(mongo_url)
    return case
