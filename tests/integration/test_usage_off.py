"""With usage off the beacon goes out alone, and nobody knocks at the database."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import otlp_reports
import pytest
from pymongo.database import Database
from receivers import HttpSink, Listener
from servers import ExporterRunner, eventually


@pytest.fixture
def bystander() -> Iterator[Listener]:
    """A real listener in the database's place, which counts who comes."""

    def hang_up(_: socket.socket, __: Event) -> None:
        pass

    with Listener(hang_up) as listener:
        yield listener


@pytest.fixture
def environment(bystander: Listener, state_dir: Path) -> Mapping[str, str]:
    return {
        "MONGO_URL": f"mongodb://127.0.0.1:{bystander.port}/novu-db",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_METRIC_EXPORT_INTERVAL": "400",
    }


def check_beacon_alone(sink: HttpSink, bystander: Listener, state_dir: Path) -> None:
    assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON}
    assert otlp_reports.value(otlp_reports.points(*sink.reports), "novu.usage.enabled") == 0
    assert bystander.connections == 0
    assert not (state_dir / "created.json").exists()


Off = Callable[[Path], tuple[list[str], Mapping[str, str]]]


def by_dot_env(folder: Path) -> tuple[list[str], Mapping[str, str]]:
    (folder / ".env").write_text("NOVU_TELEMETRY=No\n")
    return [], {}


def by_env_file(folder: Path) -> tuple[list[str], Mapping[str, str]]:
    (folder / "novu.env").write_text("SWITCH=off\nNOVU_TELEMETRY=${SWITCH:-on}\n")
    return ["--env-file", "novu.env"], {}


def by_the_environment_over_dot_env(folder: Path) -> tuple[list[str], Mapping[str, str]]:
    (folder / ".env").write_text("NOVU_TELEMETRY=true\n")
    return [], {"NOVU_TELEMETRY": "False"}


@pytest.mark.parametrize(
    "off",
    [
        lambda _: ([], {"NOVU_TELEMETRY": "false"}),
        lambda _: ([], {"NOVU_TELEMETRY": "0"}),
        by_dot_env,
        by_env_file,
        by_the_environment_over_dot_env,
    ],
)
def test_with_the_variable_off_run_sends_the_beacon_alone_and_connects_to_no_database(
    off: Off,
    environment: Mapping[str, str],
    bystander: Listener,
    tmp_path: Path,
    exporter: ExporterRunner,
) -> None:
    state_dir = Path(environment["OTEL_NOVU_STATE_DIR"])
    options, variables = off(tmp_path)
    with HttpSink() as sink:
        env = {**environment, **variables, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        running = exporter.start("run", *options, env=env, cwd=tmp_path)
        running.wait_for("reports to")
        sink.wait_for(5)
        assert running.terminate() == 0
        assert "usage figures are off (NOVU_TELEMETRY)" in running.stderr[0]
        for command in (["once"], ["check"], ["show"], ["show", "--otlp"], ["telemetry", "status"]):
            done = exporter(*command, *options, env=env, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        check_beacon_alone(sink, bystander, state_dir)


def test_with_the_admin_setting_off_run_sends_the_beacon_alone_too(
    environment: Mapping[str, str], bystander: Listener, state_dir: Path, exporter: ExporterRunner
) -> None:
    with HttpSink() as sink:
        env = {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        assert exporter("telemetry", "disable", env=env).returncode == 0
        running = exporter.start("run", env=env)
        sink.wait_for(5)
        assert running.terminate() == 0
        assert "usage figures are off (the admin setting)" in running.stderr[0]
        check_beacon_alone(sink, bystander, state_dir)


def test_with_usage_on_the_same_listener_is_asked(
    environment: Mapping[str, str], bystander: Listener, exporter: ExporterRunner
) -> None:
    with HttpSink() as sink:
        env = {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        running = exporter.start("run", env=env)
        eventually(lambda: bystander.connections)
        assert running.terminate() == 0


@pytest.mark.parametrize("url", ["named", "not named"])
def test_usage_off_forgets_where_the_created_counters_stood_and_keeps_their_totals(
    url: str,
    database: Database[dict[str, Any]],
    mongo_url: str,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    database["users"].insert_one({})
    file = state_dir / "created.json"
    with HttpSink() as sink:
        base = {"OTEL_NOVU_STATE_DIR": str(state_dir), "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        on = {**base, "MONGO_URL": mongo_url}
        assert exporter("once", env=on).returncode == 0
        watched = json.loads(file.read_text())["figures"]["user.created"]
        assert watched["paused"] is False

        off = {**(on if url == "named" else base), "NOVU_TELEMETRY": "off"}
        assert exporter("once", env=off).returncode == 0
        paused = json.loads(file.read_text())["figures"]["user.created"]
        assert paused == {**watched, "paused": True}

        assert exporter("once", env=on).returncode == 0
        again = json.loads(file.read_text())["figures"]["user.created"]
        assert again["paused"] is False
        assert again["until"] >= watched["until"]
        assert (again["total"], again["since"]) == (watched["total"], watched["since"])
