import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pymongo
import pytest
import requests
import stack
import stack_build
import trustme
import yaml
from stack import Servers, ask_prometheus, poll

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "examples" / "stack"
COLLECTOR_CONFIG = ROOT / "collector-config.yaml"


@pytest.fixture(scope="module")
def parts() -> stack.Binaries:
    return stack.build()


@pytest.fixture(scope="module")
def database(parts: stack.Binaries) -> Iterator[stack.Database]:
    with stack.Database(binaries=parts) as started:
        yield started


def read_yaml(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(path.read_text()))


def distributions() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((STACK / "distributions.json").read_text()))


def module_name(module: str) -> str:
    return module.partition(" ")[0].rpartition("/")[2]


def configured_types(kind: str) -> set[str]:
    return {name.partition("/")[0] for name in read_yaml(COLLECTOR_CONFIG).get(kind, {})}


def components_of(parts: stack.Binaries) -> dict[str, Any]:
    command = [str(parts.collector), "components"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return cast("dict[str, Any]", yaml.safe_load(told.stdout))


# --- collector-config.yaml -----------------------------------------------------------------------


def test_the_real_collector_finds_the_configuration_valid(parts: stack.Binaries) -> None:
    assert stack.validate(COLLECTOR_CONFIG, parts) == ""


def test_the_real_collector_would_tell_a_mistake_in_the_configuration(
    parts: stack.Binaries, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(COLLECTOR_CONFIG.read_text().replace("limit_mib: 400", "limit_mob: 400"))
    assert "limit_mob" in stack.validate(broken, parts)


def test_the_batching_that_the_configuration_recommends_in_a_comment_is_valid(
    parts: stack.Binaries, tmp_path: Path
) -> None:
    lines = COLLECTOR_CONFIG.read_text().splitlines()
    begin = lines.index("  #   otlp_http:")
    indented = [line.removeprefix("  # ") for line in lines[begin : begin + 6]]
    text = COLLECTOR_CONFIG.read_text()
    text = text.replace("\nexporters:\n", "\nexporters:\n" + "\n".join(indented) + "\n")
    text = text.replace("[prometheus_remote_write, debug]", "[otlp_http, debug]")
    recommended = tmp_path / "recommended.yaml"
    recommended.write_text(text)
    assert yaml.safe_load(text)["exporters"]["otlp_http"]["sending_queue"]["batch"]["enabled"]
    assert stack.validate(recommended, parts) == ""


def test_every_address_of_the_configuration_can_be_set_from_outside(
    parts: stack.Binaries,
) -> None:
    asked = set(re.findall(r"\$\{env:(\w+):-", COLLECTOR_CONFIG.read_text()))
    nonsense = dict.fromkeys(asked, "no such thing")
    assert len(asked) == 6
    assert stack.validate(COLLECTOR_CONFIG, parts, nonsense) != ""


@pytest.mark.parametrize("kind", ["receivers", "processors", "exporters", "extensions"])
def test_every_component_of_the_configuration_is_in_both_stock_distributions(
    parts: stack.Binaries, kind: str
) -> None:
    modules = {part["name"]: module_name(part["module"]) for part in components_of(parts)[kind]}
    used = {modules[name] for name in configured_types(kind)}
    assert used
    for distribution in distributions()["distributions"].values():
        assert used <= set(distribution["modules"][kind])


def test_what_the_list_says_of_the_components_in_use_is_what_the_real_collector_says(
    parts: stack.Binaries,
) -> None:
    told = components_of(parts)
    listed = {
        (item["kind"], item["type"], item["module"])
        for item in distributions()["used"]["components"]
    }
    real = {
        (kind, part["name"], part["module"].partition(" ")[0])
        for kind in ("receivers", "processors", "exporters", "extensions")
        for part in told[kind]
    }
    assert listed == real


def test_the_list_of_components_in_use_is_of_the_collector_that_is_built(
    parts: stack.Binaries,
) -> None:
    version = distributions()["used"]["version"]
    assert components_of(parts)["buildinfo"]["version"] == version
    assert stack_build.collector_version() == version


def test_every_component_of_the_native_collector_is_in_both_stock_distributions() -> None:
    manifest = read_yaml(STACK / "builder.yaml")
    for kind in ("extensions", "receivers", "processors", "exporters", "providers"):
        built = {module_name(part["gomod"]) for part in manifest[kind]}
        for distribution in distributions()["distributions"].values():
            assert built <= set(distribution["modules"][kind])


def test_the_configuration_names_no_deprecated_component() -> None:
    for item in distributions()["used"]["components"]:
        assert item.get("deprecated_type") not in configured_types(item["kind"])
    assert "batch" not in configured_types("processors")


# --- Prometheus, compose -------------------------------------------------------------------------


def test_promtool_finds_the_configuration_of_prometheus_valid(parts: stack.Binaries) -> None:
    command = [str(parts.promtool), "check", "config", str(STACK / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_reports_that_are_a_week_late() -> None:
    config = read_yaml(STACK / "prometheus.yml")
    assert config["storage"]["tsdb"]["out_of_order_time_window"] == "8d"


def test_every_image_of_the_compose_file_is_pinned_to_a_full_version() -> None:
    services = read_yaml(STACK / "compose.yaml")["services"]
    assert set(services) > {"database", "collector", "prometheus"}
    for service in services.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"])


def test_the_compose_file_opens_ports_on_this_machine_only() -> None:
    for service in read_yaml(STACK / "compose.yaml")["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_the_compose_file_and_the_native_stack_use_the_same_ports_and_versions(
    parts: stack.Binaries,
) -> None:
    text = (STACK / "compose.yaml").read_text()
    ports = re.findall(r"\$\{(OTEL_NOVU_STACK_\w+):-(\d+)\}", text)
    # Grafana is for people only: no test starts it.
    of_people = {"OTEL_NOVU_STACK_GRAFANA_PORT": 13000}
    assert {name: int(port) for name, port in ports} == stack.PORTS | of_people
    assert f"opentelemetry-collector-contrib:{stack_build.collector_version()}" in text
    debian = parts.versions()["prometheus"].partition("+")[0]
    assert re.search(rf"prom/prometheus:v{debian.rpartition('.')[0]}\.", text)


# --- the servers ---------------------------------------------------------------------------------


def otlp_json(name: str, value: int, job: str) -> dict[str, Any]:
    point = {
        "asInt": str(value),
        "timeUnixNano": str(time.time_ns()),
        "startTimeUnixNano": str(time.time_ns() - 10**9),
        "attributes": [{"key": "novu.provider.id", "value": {"stringValue": "sendgrid"}}],
    }
    total = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}
    metric = {"name": name, "unit": "{event}", "sum": total}
    resource = [
        {"key": "service.name", "value": {"stringValue": job}},
        {"key": "service.instance.id", "value": {"stringValue": "test-instance"}},
        {"key": "telemetry.sdk.language", "value": {"stringValue": "python"}},
    ]
    scope = {"scope": {"name": "otel_novu.usage", "version": "1"}, "metrics": [metric]}
    return {"resourceMetrics": [{"resource": {"attributes": resource}, "scopeMetrics": [scope]}]}


def test_a_metric_goes_through_collector_and_prometheus_with_its_few_labels(
    parts: stack.Binaries,
) -> None:
    with (
        stack.Prometheus(binaries=parts) as prometheus,
        stack.Collector(
            COLLECTOR_CONFIG,
            {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write},
            binaries=parts,
        ) as collector,
    ):
        body = otlp_json("novu.event.created", 7, "stack-test")
        answer = requests.post(f"{collector.otlp_http}/v1/metrics", json=body, timeout=60)
        assert answer.status_code == 200
        query = 'novu_event_created_total{job="stack-test"}'
        assert poll(lambda: bool(prometheus.query(query)), 120)
        found = prometheus.query(query)
        target = prometheus.query('target_info{job="stack-test"}')
        log = collector.output()
    assert [series["value"][1] for series in found] == ["7"]
    assert found[0]["metric"] == {
        "__name__": "novu_event_created_total",
        "job": "stack-test",
        "instance": "test-instance",
        "novu_provider_id": "sendgrid",
    }
    assert target[0]["metric"]["telemetry_sdk_language"] == "python"
    assert "deprecated" not in log.lower()


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ({"name": "novu.user.count", "unit": "{user}", "sum": {}}, "novu_user_count"),
        (
            {"name": "novu.host.memory.free", "unit": "By", "gauge": {}},
            "novu_host_memory_free_bytes",
        ),
        ({"name": "novu.host.info", "gauge": {}}, "novu_host_info"),
        (
            {"name": "novu.beacon.timestamp", "unit": "s", "gauge": {}},
            "novu_beacon_timestamp_seconds",
        ),
    ],
)
def test_prometheus_knows_a_metric_by_the_name_that_its_kind_and_unit_give_it(
    stack: Servers, metric: dict[str, Any], expected: str
) -> None:
    body = otlp_json("unused", 1, f"name-test-{time.time_ns()}")
    job = body["resourceMetrics"][0]["resource"]["attributes"][0]["value"]["stringValue"]
    scope = body["resourceMetrics"][0]["scopeMetrics"][0]
    points = scope["metrics"][0]["sum"]["dataPoints"]
    shape = {"aggregationTemporality": 2, "isMonotonic": False} if "sum" in metric else {}
    kind = "sum" if "sum" in metric else "gauge"
    scope["metrics"] = [{**metric, kind: {**shape, "dataPoints": points}}]
    answer = requests.post(f"{stack.otlp_http}/v1/metrics", json=body, timeout=60)
    assert answer.status_code == 200
    query = f'{expected}{{job="{job}"}}'
    assert poll(lambda: bool(ask_prometheus(stack.prometheus, query)), 120)


def test_the_collector_keeps_a_report_while_prometheus_is_away(parts: stack.Binaries) -> None:
    with stack.Prometheus(binaries=parts) as prometheus:
        prometheus.kill()
        target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        with stack.Collector(COLLECTOR_CONFIG, target, binaries=parts) as collector:
            with socket.create_server(("127.0.0.1", prometheus.port)) as listener:
                body = otlp_json("novu.event.created", 3, "late-test")
                requests.post(f"{collector.otlp_http}/v1/metrics", json=body, timeout=60)
                listener.settimeout(120)
                listener.accept()[0].close()
            prometheus.start()
            query = 'novu_event_created_total{job="late-test"}'
            assert poll(lambda: bool(prometheus.query(query)), 120)


def test_the_database_takes_the_login_of_novus_env_file_and_no_other(
    database: stack.Database,
) -> None:
    with pymongo.MongoClient[dict[str, Any]](database.url("login-test")) as client:
        client["login-test"].users.insert_many([{"n": n} for n in range(100)])
        assert client["login-test"].users.count_documents({}) == 100
    wrong = database.url(login="root:wrong")
    with (
        pymongo.MongoClient[dict[str, Any]](wrong) as client,
        pytest.raises(pymongo.errors.OperationFailure) as error,
    ):
        client["login-test"].users.find_one()
    assert error.value.code == 18


def test_counts_are_exact_until_they_are_frozen(database: stack.Database) -> None:
    with pymongo.MongoClient[dict[str, Any]](database.url("count-test")) as client:
        users = client["count-test"].users
        users.insert_many([{"n": n} for n in range(100)])
        users.delete_many({"n": {"$lt": 10}})
        assert users.estimated_document_count() == 90
        database.analyze("count-test")
        users.insert_one({"n": 100})
        assert users.estimated_document_count() == 90
        database.analyze()
        assert users.estimated_document_count() == 91


def test_an_index_can_be_made(database: stack.Database) -> None:
    with pymongo.MongoClient[dict[str, Any]](database.url("index-test")) as client:
        client["index-test"].users.create_index("n")
        assert "n_1" in client["index-test"].users.index_information()


def test_a_second_login_can_be_made(database: stack.Database) -> None:
    database.create_login("reader", "Read-only-1")
    with pymongo.MongoClient[dict[str, Any]](database.url(login="reader:Read-only-1")) as client:
        assert client["novu-db"].list_collection_names() == []


def test_documents_can_be_made_in_bulk_by_sql(database: stack.Database) -> None:
    with pymongo.MongoClient[dict[str, Any]](database.url("bulk-test")) as client:
        client["bulk-test"].create_collection("notifications")
        table = database.documents("bulk-test", "notifications")
        assert database.sql(f"TABLE {table}") == ""


def test_the_database_hangs_while_paused_and_keeps_its_data_over_a_kill(
    database: stack.Database,
) -> None:
    url = database.url("kill-test")
    options: dict[str, Any] = {"timeoutMS": 5000}
    with pymongo.MongoClient[dict[str, Any]](url, **options) as client:
        client["kill-test"].topics.insert_one({"_id": 1})
        database.pause()
        with pytest.raises(pymongo.errors.PyMongoError):
            client["kill-test"].topics.find_one()
        database.resume()
    database.kill()
    assert not database.alive()
    database.start()
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        assert client["kill-test"].topics.find_one() == {"_id": 1}


def tls_files(authority: trustme.CA, folder: Path) -> stack.TlsFiles:
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return stack.TlsFiles(folder / "certificate.pem", folder / "key.pem")


def test_the_database_talks_tls_where_it_is_asked_to(parts: stack.Binaries, tmp_path: Path) -> None:
    tls = tls_files(trustme.CA(), tmp_path)
    with stack.Database(binaries=parts, tls=tls) as started:
        trusted: dict[str, Any] = {"tlsCAFile": str(tmp_path / "ca.pem")}
        with pymongo.MongoClient[dict[str, Any]](started.tls_url(), **trusted) as client:
            assert client["novu-db"].list_collection_names() == []


def test_the_collector_talks_tls_on_both_protocols_where_it_is_asked_to(
    parts: stack.Binaries, tmp_path: Path
) -> None:
    tls = tls_files(trustme.CA(), tmp_path)
    overrides = [
        f"receivers.otlp.protocols.{protocol}.tls.{name}={file}"
        for protocol in ("grpc", "http")
        for name, file in (("cert_file", tls.certificate), ("key_file", tls.key))
    ]
    with stack.Collector(COLLECTOR_CONFIG, binaries=parts, overrides=overrides) as collector:
        url = f"{collector.otlp_http}/v1/metrics".replace("http:", "https:")
        body = otlp_json("novu.event.created", 1, "tls-test")
        ca = str(tmp_path / "ca.pem")
        assert requests.post(url, json=body, timeout=60, verify=ca).status_code == 200
        trust = ssl.create_default_context(cafile=ca)
        trust.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", collector.grpc_port), timeout=60) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            assert wrapped.selected_alpn_protocol() == "h2"


def test_private_servers_do_not_outlive_a_killed_parent(
    parts: stack.Binaries, tmp_path: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(STACK)!r})\n"
        "import stack\n"
        "one, two = stack.Prometheus().start(), stack.Database().start()\n"
        "print(*[p.pid for s in (one, two) for p in s.processes], flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        os.kill(parent.pid, signal.SIGKILL)
    assert len(pids) == 3
    assert poll(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 120)
    assert parts.chroot.exists()


# --- stack.py ------------------------------------------------------------------------------------


def stack_command(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STACK / "stack.py"), *words]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


GIVEN = {
    "TEST_MONGO_URL": "mongodb://db.example/novu-db",
    "TEST_OTLP_HTTP": "http://otel.example:4318",
    "TEST_OTLP_GRPC": "http://otel.example:4317",
    "TEST_PROMETHEUS": "http://prometheus.example:9090",
}


def test_given_addresses_come_first_and_nothing_is_started() -> None:
    done = stack_command("up", **GIVEN)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"{name}={address}" for name, address in GIVEN.items()]


def test_status_says_of_each_server_that_it_is_not_started(tmp_path: Path) -> None:
    nothing = dict.fromkeys(GIVEN, "")
    done = stack_command("status", OTEL_NOVU_CACHE=str(tmp_path), **nothing)
    assert done.returncode == 1
    assert [line.split() for line in done.stdout.splitlines()] == [
        [name, "down", "not", "started"] for name in ("database", "prometheus", "collector")
    ]


def test_a_port_that_is_none_is_refused_in_one_sentence() -> None:
    done = stack_command("status", OTEL_NOVU_STACK_DATABASE_PORT="many")
    assert done.returncode == 1
    assert done.stderr == (
        "OTEL_NOVU_STACK_DATABASE_PORT is 'many'; a port is a number from 1 to 65535.\n"
    )


def test_another_database_of_the_same_server_keeps_login_and_options() -> None:
    url = "mongodb://root:secret@127.0.0.1:27117/novu-db?authSource=admin"
    assert stack.with_database(url, "other").endswith("127.0.0.1:27117/other?authSource=admin")


def test_a_failed_build_step_is_one_sentence_with_the_logs_path(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        parts = stack_build.binaries()
        builder = stack_build.Builder(lambda _: None, tmp_path, parts, lock.fileno())
        builder.logs.mkdir()
        builder.work.mkdir(parents=True)
        with pytest.raises(
            stack.StackError, match=r"Some step failed with exit code 1; see .*\.log"
        ):
            builder.run("Some step", 1, ["false"])


def test_an_interrupted_build_is_done_again(tmp_path: Path) -> None:
    place = tmp_path / "part-v1" / "binary"
    parts = stack.Binaries(ferretdb=place, collector=place, chroot=place)
    (tmp_path / "work" / "part").mkdir(parents=True)
    (tmp_path / "work" / "part" / "binary").touch()
    assert stack_build.missing(parts) == [place] * 3 + [parts.template]
    stack_build.put_in_place(tmp_path / "work" / "part", place.parent)
    assert stack_build.missing(parts) == [parts.template]
