"""What an operator sees in the first hour: what works is said once, and what fails is named."""

import json
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from contract.case import ONE_REPORT, STALL_SECONDS, STOP_SECONDS, Case
from contract.test_database_faults import NAMES, PASSWORD, figures, usage_reports
from faults import Gate
from servers import eventually
from stack import free_port

from otel_novu.metrics.usage import FIGURES

pytestmark = pytest.mark.contract

COUNT = len(FIGURES)
ALL = f"{COUNT} of {COUNT} figures"
OTLP = "OTEL_EXPORTER_OTLP"

# As Novu's own .env.example writes it, and its services.
NOVUS_OWN = """\
# used to encrypt/decrypt the provider credentials
STORE_ENCRYPTION_KEY="<ENCRYPTION_KEY_MUST_BE_32_LONG>"
HOST_NAME=http://localhost
NODE_ENV=local
MONGO_MAX_POOL_SIZE=200
# MONGO USER
MONGO_INITDB_ROOT_USERNAME=root
MONGO_INITDB_ROOT_PASSWORD=secret
MONGO_URL={url}
REDIS_PASSWORD=
REDIS_CACHE_SERVICE_HOST=
DOCKER_REDIS_SERVICE_PORT=6379
S3_LOCAL_STACK=$HOST_NAME:4566
NEW_RELIC_APP_NAME="[LOCAL] - worker"
# REACT_APP_API_URL=$API_URL
API_ROOT_URL=$HOST_NAME:3000
ENABLE_OTEL=true
NOVU_TELEMETRY=
"""
# Of Novu's Node SDK, of other SDKs, and what the OpenTelemetry Operator injects.
TO_FIX = {
    "OTEL_METRICS_EXPORTER": "prometheus",
    f"{OTLP}_PROTOCOL": "http/json",
    f"{OTLP}_COMPRESSION": "zstd",
    f"{OTLP}_INSECURE": "1",
    f"{OTLP}_METRICS_TEMPORALITY_PREFERENCE": "delta",
    "OTEL_METRIC_EXPORT_INTERVAL": "abc",
    "OTEL_LOG_LEVEL": "verbose",
}
NO_EFFECT = {
    "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=a.b.c,telemetry.sdk.name=x,service.name=mine",
    "OTEL_CONFIG_FILE": "otel.yaml",
    "OTEL_METRIC_EXPORT_TIMEOUT": "30000",
}
NO_WARNING = {
    f"{OTLP}_TIMEOUT": "10000",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_NOVU_SERVICE_HOST": "10.0.0.1",
    "OTEL_NOVU_PORT_4318_TCP_ADDR": "10.0.0.1",
}


def test_the_first_delivery_is_logged_once(novu: Case) -> None:
    running = novu.start()
    novu.sink.wait_for(6)
    novu.stop(running)
    lines = [line for line in running.stderr if "delivered to" in line]
    pattern = rf" INFO First report delivered to {novu.sink.endpoint}: beacon, usage \({ALL}\); "
    assert len(lines) == 1
    assert re.search(rf"{pattern}next at \d\d:\d\d:\d\dZ\.$", lines[0])
    assert running.stderr[-1].endswith("INFO Stopped; every report was delivered.")


def test_novus_own_env_file_delivers_without_a_warning(
    novu: Case, mongo_url: str, tmp_path: Path
) -> None:
    user, password = "$MONGO_INITDB_ROOT_USERNAME", "$MONGO_INITDB_ROOT_PASSWORD"
    url = mongo_url.replace("root:secret", f"{user}:{password}")
    file = tmp_path / "novu.env"
    file.write_text(NOVUS_OWN.format(url=url))
    running = novu.start(f"run --env-file {file}", MONGO_URL="")
    assert f"usage ({ALL})" in running.wait_for("First report delivered")
    novu.stop(running)
    assert running.warnings == []


@pytest.mark.parametrize("place", [".env", "environment"])
def test_variables_of_other_programs_are_one_warning_each_and_reports_are_delivered(
    place: str, case: Case, tmp_path: Path
) -> None:
    others, ours = {**TO_FIX, **NO_EFFECT, **NO_WARNING}, "OTEL_NOVU_STATE_DIR"
    env = {f"{OTLP}_ENDPOINT": case.sink.base, "NOVU_TELEMETRY": "off", ours: case.env[ours]}
    if place == ".env":
        (tmp_path / ".env").write_text("".join(f"{n}={text}\n" for n, text in others.items()))
    else:
        env |= others
    running = case.exporter.start("run", env=env, cwd=tmp_path)
    running.wait_for("First report delivered")
    case.stop(running)
    named = Counter(re.match("[A-Z_]+", warning)[0] for warning in running.warnings)  # type: ignore[index]
    assert named == Counter([*TO_FIX, *NO_EFFECT])
    [resource] = {dict(each.resource)["service.name"] for each in case.points()}
    assert resource == "mine"
    done = case.exporter("check", "--json", env=env, cwd=tmp_path)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    results = Counter(each["result"] for each in found if each["subject"] == "settings")
    assert (done.returncode, done.stderr) == (1, "")
    assert results == {"FAIL": len(TO_FIX), "WARN": len(NO_EFFECT)}


def test_without_a_home_directory_reports_are_kept_in_memory(case: Case, tmp_path: Path) -> None:
    # What Python makes of a user without an entry in passwd and without HOME.
    env = case.env | {"HOME": "~", "OTEL_NOVU_STATE_DIR": ""}
    running = case.exporter.start("run", env=env, cwd=tmp_path)
    running.wait_for("First report delivered")
    case.stop(running)
    [warning] = running.warnings
    assert warning.startswith("Can't write to OTEL_NOVU_STATE_DIR (no home directory)")
    for command in ("check", "health"):
        done = case.exporter(command, env=env, cwd=tmp_path)
        said = re.sub(r"\s+", " ", done.stdout + done.stderr)
        assert (done.returncode, "no home directory; set OTEL_NOVU_STATE_DIR" in said) == (1, True)
    assert not (tmp_path / "~").exists()


def test_verbose_logs_each_delivery_with_bytes_and_milliseconds(novu: Case) -> None:
    done = novu("once --verbose")
    assert done.returncode == 0
    sent = re.findall(
        r"DEBUG Sent a (\w+) report to \S+: delivered \(\d+ bytes, \d+ ms\)", done.stderr
    )
    assert sorted(sent) == ["beacon", "usage"]


def test_a_database_that_comes_up_later_costs_no_hour(novu: Case, mongo_url: str) -> None:
    port, server = free_port(), mongo_url.rpartition("@")[2].partition("/")[0]
    novu.read(mongo_url.replace(server, f"127.0.0.1:{port}"))
    running = novu.start(**ONE_REPORT)
    eventually(lambda: usage_reports(novu))
    assert not any(map(figures, usage_reports(novu)))
    running.wait_for("refuses connections")
    with Gate(mongo_url, port=port):
        came_up = time.time()
        eventually(lambda: any(figures(report) == NAMES for report in usage_reports(novu)))
        # It is asked again after 10 s at most at first; a machine may stall beside that.
        assert novu.times("usage")[-1] - came_up < 15 + STALL_SECONDS
        running.wait_for("All usage figures are read again")
        # Readings that failed again in between were not sent.
        assert len(usage_reports(novu)) == 2
        novu.stop(running)


def test_a_wrong_password_is_one_line_and_no_success(novu: Case, mongo_url: str) -> None:
    novu.read(mongo_url.replace("root:secret", f"root:{PASSWORD}"))
    done = novu("once")
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if " WARNING " in line]
    assert len(warnings) == 1
    where = mongo_url.rpartition("@")[2].partition("/")[0]
    assert f"MongoDB at {where}: not authenticated (code 18)" in warnings[0]
    assert f"beacon and usage report without figures (0 of {COUNT})" in done.stderr
    running = novu.start(**ONE_REPORT)
    novu.sink.wait_for(4)
    running.wait_for("First report delivered")
    assert novu("health").returncode == 0
    strict = novu("health --strict --json")
    message = f"0 of {COUNT} usage figures could be read"
    assert (strict.returncode, message in strict.stdout) == (1, True)
    running.send(signal.SIGINT)
    assert running.wait(STOP_SECONDS) == 0
    assert "every report was delivered" not in running.stderr[-1]
    assert "usage report without figures" in running.stderr[-1]
    assert PASSWORD not in done.stderr + "".join(running.stderr)


def test_a_report_without_figures_that_waits_is_not_healthy_either(
    novu: Case, mongo_url: str
) -> None:
    assert novu("once").returncode == 0
    novu.read(mongo_url.replace("root:secret", f"root:{PASSWORD}"))
    novu.send_nowhere()
    running = novu.start(**ONE_REPORT)
    eventually(lambda: novu.waiting("usage").total() == 1)
    assert novu("health").returncode == 0
    strict = novu("health --strict")
    assert (strict.returncode, f"0 of {COUNT} usage figures" in strict.stderr) == (1, True)
    novu.stop(running)
