"""What the real database is asked, over all that otel-novu does, and what it answers."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import otlp_reports
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import AutoReconnect
from receivers import HttpSink
from recording_mongo import ALLOWED, MongoProxy
from scripted_mongo import HELLO, Document, answering, scripted_mongo
from servers import ExporterRunner, eventually
from stack import Servers

import otel_novu
from otel_novu.metrics.question import PROVIDER_FORM, CreatedIn
from otel_novu.metrics.usage import COLLECTIONS, FIGURES
from otel_novu.settings import Secret, load
from otel_novu.sources.novu_db import NovuDatabase

DOC = Path(__file__).parent.parent.parent / "docs" / "database-user.md"
TIMEOUT = 30.0
READS = {"count", "aggregate", "listCollections"}
STAGES = {"$match", "$group", "$sort", "$facet", "$limit", "$skip"}


@pytest.fixture
def expected(
    stack: Servers, database: Database[dict[str, Any]], mongo_url: str
) -> novu_data.Expected:
    counted = novu_data.load(database, seed=3, size="small", now=datetime.now(UTC), marked=True)
    stack.analyze(mongo_url.rpartition("/")[2].partition("?")[0])
    return counted


@pytest.fixture
def proxy(mongo_url: str) -> Iterator[MongoProxy]:
    """In front of the real database; anything that is not on the list breaks the connection."""
    with MongoProxy(mongo_url, ALLOWED) as proxy:
        yield proxy


def environment(url: str, state_dir: Path, sink: HttpSink) -> dict[str, str]:
    return {
        "MONGO_URL": url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_QUERY_TIMEOUT": str(TIMEOUT),
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
    }


def use_every_feature(exporter: ExporterRunner, env: Mapping[str, str], sink: HttpSink) -> None:
    running = exporter.start("run", "--verbose", env={**env, "OTEL_METRIC_EXPORT_INTERVAL": "500"})
    sink.wait_for(6)
    assert exporter("telemetry", "disable", env=env).returncode == 0
    running.wait_for("Usage figures are off now")
    assert exporter("telemetry", "enable", env=env).returncode == 0
    running.wait_for("Usage figures are on now")
    assert exporter("spool", "--flush", env=env).returncode == 0
    assert running.terminate() == 0
    for command in (
        "once",
        "show",
        "show --json",
        "show --otlp",
        "show --last",
        "show --queries",
        "check",
        "check --json",
        "telemetry status",
        "spool",
        "spool --flush",
        "reset-id",
        "metrics",
    ):
        done = exporter(*command.split(), env=env)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    exporter("health", env=env)
    use_in_an_application(env)


def use_in_an_application(env: Mapping[str, str]) -> None:
    settings = load(env, env_file=None, cwd=Path("/"), home=Path("/"))
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with otel_novu.register_usage(provider, settings=settings):
        eventually(reader.get_metrics_data)
    provider.shutdown()


def test_every_command_over_all_features_is_on_the_list_and_asks_no_more_than_it_may(
    proxy: MongoProxy,
    expected: novu_data.Expected,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    with HttpSink() as sink:
        use_every_feature(exporter, environment(proxy.url, state_dir, sink), sink)
    names = {name.lower() for name in proxy.names()}
    assert proxy.broken == []
    assert names <= ALLOWED
    assert {"hello", "saslcontinue", "count", "aggregate", "listcollections"} <= names
    for command in proxy.commands:
        check_command(command)
    for answer in proxy.answers:
        check_answer(answer)
    # Every text and every id of the documents holds the mark: none was even read.
    assert novu_data.MARK.encode() not in proxy.answered
    assert set(expected.providers) <= providers_in(proxy.answers)


def check_command(command: Document) -> None:
    name = next(iter(command))
    if name in {"count", "aggregate"}:
        assert command[name] in COLLECTIONS
    if name in READS:
        assert command["comment"] == "otel-novu"
        assert 0 < command["maxTimeMS"] <= TIMEOUT * 1000
    if name == "count":
        assert "query" not in command
    if name == "listCollections":
        assert command["nameOnly"] is True
        assert set(command["filter"]["name"]["$in"]) == set(COLLECTIONS)
    if name == "aggregate":
        assert stages_of(command["pipeline"]) <= STAGES


def stages_of(pipeline: list[Document]) -> set[str]:
    names = {name for stage in pipeline for name in stage}
    inner = [stage["$facet"].values() for stage in pipeline if "$facet" in stage]
    return names.union(*(stages_of(each) for facets in inner for each in facets))


def check_answer(answer: Document) -> None:
    """A cursor's documents are numbers by provider, or names of the seven collections."""
    for row in rows_of(answer):
        if "largest" in row:
            assert row.keys() == {"largest", "rest"}
            for group in (*row["largest"], *row["rest"]):
                check_group(group)
        elif "name" in row:
            assert row["name"] in COLLECTIONS
        else:
            check_group(row)


def check_group(row: Document) -> None:
    assert row.keys() == {"_id", "n"}
    assert isinstance(row["n"], int)
    assert row["_id"] is None or re.fullmatch(PROVIDER_FORM, row["_id"])


def rows_of(answer: Document) -> list[Document]:
    cursor = answer.get("cursor", {})
    return [*cursor.get("firstBatch", ()), *cursor.get("nextBatch", ())]


def providers_in(answers: list[Document]) -> set[str]:
    rows = [row for answer in answers for row in rows_of(answer) if "largest" in row]
    return {group["_id"] for row in rows for group in row["largest"]}


def test_a_report_through_a_proxy_that_breaks_all_other_commands_is_whole(
    proxy: MongoProxy,
    expected: novu_data.Expected,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    with HttpSink() as sink:
        once = exporter("once", env=environment(proxy.url, state_dir, sink))
        assert once.returncode == 0, once.stderr
        found = otlp_reports.points(*sink.reports)
    assert otlp_reports.values(found, "novu.integration.count", "novu.provider.id") == (
        expected.providers
    )
    assert otlp_reports.value(found, "novu.workflow.step.count") == expected.steps
    assert otlp_reports.value(found, "novu.topic.count") == expected.documents["topics"]
    # The proxy does what it is for.
    with MongoClient[Document](proxy.url) as client, pytest.raises(AutoReconnect):
        client.get_default_database()["users"].find_one()
    assert proxy.broken == ["find", "find"]  # the driver tries a read twice


def test_totals_are_read_from_a_secondary_where_there_is_one() -> None:
    def script(command: Document) -> Document:
        member = {**HELLO, "setName": "rs", "hosts": [place], "me": place, "secondary": False}
        nothing = {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.x", "firstBatch": []}}
        return answering(hello=member, ismaster=member, aggregate=nothing, listCollections=nothing)(
            command
        )

    with scripted_mongo(script) as server:
        place = f"127.0.0.1:{server.port}"
        database = NovuDatabase(Secret(f"mongodb://{place}/novu-db?replicaSet=rs"), TIMEOUT)
        database.collections()
        for figure in FIGURES:
            if not isinstance(figure.question, CreatedIn):
                figure.question.read(database)
        totals = len(server.commands)
        database.count_created("users", 0, 1)
        database.close()
    assert preferences(server.commands[:totals]) == {"secondaryPreferred"}
    # A window is read once and never again: a secondary that lags would hide documents from it.
    assert preferences(server.commands[totals:]) == {"primaryPreferred"}


def preferences(commands: list[Document]) -> set[str]:
    reads = [command for command in commands if next(iter(command)) in READS]
    return {command["$readPreference"]["mode"] for command in reads}


def test_the_documented_user_is_made_by_the_documented_command_and_is_enough(
    stack: Servers,
    expected: novu_data.Expected,
    mongo_url: str,
    state_dir: Path,
    instance_id: str,
    exporter: ExporterRunner,
) -> None:
    user, password = f"reader-{instance_id[:8]}", f"Pw-{instance_id}"
    name = mongo_url.rpartition("/")[2].partition("?")[0]
    request = documented("createUser")
    assert request["roles"] == [{"role": "read", "db": "novu-db"}]
    with MongoClient[Document](stack.mongo_url) as client:
        roles = [{**role, "db": name} for role in request["roles"]]
        client.admin.command({"createUser": user, "pwd": password, "roles": roles})
        try:
            url = mongo_url.replace("root:secret", f"{user}:{password}")
            assert user in url
            with HttpSink() as sink:
                done = exporter("check", env=environment(url, state_dir, sink))
        finally:
            client.admin.command({"dropUser": user})
    assert done.returncode == 0, done.stdout
    assert expected.documents["users"] > 0


def test_the_narrower_role_is_on_the_seven_collections_and_no_more() -> None:
    role = documented("createRole")
    assert [each["actions"] for each in role["privileges"]] == [["find"]] * len(COLLECTIONS)
    resources = [each["resource"] for each in role["privileges"]]
    assert {each["collection"] for each in resources} == set(COLLECTIONS)
    assert {each["db"] for each in resources} == {"novu-db"}


def documented(command: str) -> Any:
    """The document that the first such command of the page is given."""
    found = re.search(rf"\.{command}\((\{{.*?^\}})\)", DOC.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return json.loads(found[1])


def test_the_page_lists_the_commands_that_are_allowed() -> None:
    table = DOC.read_text().partition("| command |")[2].partition("\n\n")[0]
    told = {name.lower() for name in re.findall(r"`(\w+)`", table)}
    assert told >= ALLOWED
