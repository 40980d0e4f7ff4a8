"""What can be counted of docs/cost.md, so that no clock decides."""

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import novu_data
import pytest
from pymongo.database import Database
from receivers import HttpSink
from servers import ExporterRunner

# Counts what the driver sends in a round that comes an hour after the last one.
COUNT = """
import collections, json, sys, time
from pymongo import monitoring

class Watch(monitoring.CommandListener, monitoring.ConnectionPoolListener):
    commands, connections = collections.Counter(), 0
    def started(self, event): self.commands[event.command_name] += 1
    def connection_created(self, event): Watch.connections += 1
    def ignore(self, event): pass
    succeeded = failed = pool_created = pool_ready = pool_cleared = pool_closed = ignore
    connection_ready = connection_closed = connection_check_out_started = ignore
    connection_check_out_failed = connection_checked_out = connection_checked_in = ignore

monitoring.register(Watch())
from otel_novu.metrics.queries import CreatedIn
from otel_novu.metrics.usage import FIGURES
from otel_novu.settings import Secret
from otel_novu.sources.novu import read_round
from otel_novu.store import CreatedCount
until = int(time.time()) - 60 - 3600 + 60
queries = {figure.name: figure.query for figure in FIGURES}
windows = [name for name, query in queries.items() if isinstance(query, CreatedIn)]
created = dict.fromkeys(windows, CreatedCount(total=0, since=until, until=until))
assert not read_round(Secret(sys.argv[1]), created, 120, time.time).reasons
totals = [query for name, query in queries.items() if name not in windows]
plain = [each for query in totals for each in query.commands()]
late = [queries[name] for name in windows if queries[name].delay < 3600]
due = [each for query in late for each in query.commands({})]
expected = collections.Counter(next(iter(command)) for command in [*plain, *due])
print(json.dumps([Watch.commands, Watch.connections, expected]))
"""


def load(database: Database[dict[str, Any]]) -> None:
    novu_data.load(database, seed=1, size="small", now=datetime.now(UTC))


@pytest.mark.contract
def test_a_round_sends_each_query_once_over_few_connections(
    database: Database[dict[str, Any]], mongo_url: str
) -> None:
    load(database)
    command = [sys.executable, "-c", COUNT, mongo_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    commands, connections, expected = json.loads(done.stdout)
    sent = {name: n for name, n in commands.items() if not name.startswith("sasl")}
    assert sent == {"hello": 1, "listCollections": 1, "endSessions": 1, **expected}
    assert connections <= 3


def test_help_loads_no_package_but_ours() -> None:
    script = "import sys; before = set(sys.modules); from otel_novu.cli import main\n"
    script += "try: main(['--help'])\nexcept SystemExit: pass\n"
    script += "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in done.stderr.split()}
    assert packages - sys.stdlib_module_names == {"otel_novu"}


@pytest.mark.contract
def test_a_day_of_reports_is_small(
    database: Database[dict[str, Any]], mongo_url: str, sink: HttpSink, exporter: ExporterRunner
) -> None:
    load(database)
    environment = {"MONGO_URL": mongo_url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
    assert exporter("once", env=environment).returncode == 0
    bodies = [request.body for request in sink.requests]
    assert len(bodies) == 2
    # Room for some metrics more: a plain count takes 6 kB a day, 0.4 kB of them compressed.
    assert 24 * sum(map(len, bodies)) <= 300_000
    assert 24 * sum(len(gzip.compress(body)) for body in bodies) <= 100_000
