"""What `check` says of a state directory that is closed, damaged or of the kernel's own making."""

import socket
from collections.abc import Mapping
from pathlib import Path
from threading import Event

import pytest
from in_process import call
from real_faults import as_nobody, need_root, open_ground
from receivers import Listener
from scripted_mongo import Document, Hang, answering, scripted_mongo
from servers import ExporterRunner
from stack import free_port

import otel_novu.commands.check
import otel_novu.delivery.otlp.http  # noqa: F401 - as above
from otel_novu.state.directory import StateDirectory, Unreadable


@pytest.fixture
def alone(state_dir: Path) -> dict[str, str]:
    """An instance without usage figures and without a collector."""
    return {
        "NOVU_TELEMETRY": "off",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
    }


def lines(exporter: ExporterRunner, env: Mapping[str, str]) -> dict[str, str]:
    """What `check` prints: by subject the mark and what follows."""
    done = exporter("check", env=env)
    assert done.stderr == ""
    return by_subject(done.stdout)


def by_subject(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        head, _, says = line.partition(": ")
        mark, _, subject = head.partition(" ")
        found[subject.strip()] = f"{mark} {says}"
    return found


@pytest.mark.parametrize("flag", ["on", ""])
def test_a_state_directory_that_may_not_be_entered_ends_nothing_half_way(flag: str) -> None:
    with open_ground() as ground:
        (ground / "closed").mkdir(0o700)
        env = {
            "NOVU_TELEMETRY": flag,
            "MONGO_URL": f"mongodb://127.0.0.1:{free_port()}/x",
            "OTEL_NOVU_QUERY_TIMEOUT": "1",
            "OTEL_NOVU_STATE_DIR": str(ground / "closed" / "state"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "HOME": str(ground),
        }
        code, out, err = as_nobody(lambda: call(["check"], env)).split("\0")
    found = by_subject(out)
    assert (code, "otel-novu:" in err) == ("1", False)
    assert {"state directory", "instance id", "usage figures", "collector"} <= set(found)
    # Where the setting can't be read the figures are off, and no database is asked.
    assert ("database" in found) == bool(flag)
    assert found["instance id"] == (
        "WRONG it can't be known, as the state directory can't be read: permission denied."
    )
    if not flag:
        assert found["usage figures"].endswith("; mend the state directory first.")


def test_a_state_directory_that_may_not_be_read_is_named_in_whole_words() -> None:
    with open_ground() as ground:
        (ground / "closed").mkdir(0o700)
        said = as_nobody(lambda: why_no_names(ground / "closed" / "state"))
    assert said == "the state directory can't be read: permission denied"


def why_no_names(path: Path) -> str:
    with StateDirectory.look(path) as state, pytest.raises(Unreadable) as raised:
        state.names()
    return str(raised.value)


@pytest.mark.parametrize("command", ["check", "once"])
def test_a_damaged_instance_id_comes_with_its_remedy(
    alone: dict[str, str], state_dir: Path, exporter: ExporterRunner, command: str
) -> None:
    (state_dir / "instance-id").write_text("garbage\n")
    done = exporter(command, env=alone | {"OTEL_METRICS_EXPORTER": "console"})
    [line] = [line for line in (done.stdout + done.stderr).splitlines() if "no UUID" in line]
    assert "`otel-novu reset-id` makes a new one" in line
    assert exporter("reset-id", env=alone).returncode == 0
    assert lines(exporter, alone)["instance id"].startswith("ok ")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_where_nothing_listens_check_asks_what_there_is_to_ask(
    alone: dict[str, str], exporter: ExporterRunner, protocol: str
) -> None:
    port = free_port()
    env = with_collector(alone, f"http://127.0.0.1:{port}", protocol)
    assert lines(exporter, env)["collector"].endswith(
        f": nothing listens at 127.0.0.1:{port}; is it running, and is its address right?"
    )


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_where_nothing_answers_check_asks_what_there_is_to_ask(
    alone: dict[str, str], exporter: ExporterRunner, protocol: str
) -> None:
    with Listener(say_nothing) as silent:
        env = with_collector(alone, f"http://127.0.0.1:{silent.port}", protocol)
        said = lines(exporter, env)["collector"]
    assert said.endswith("; is it running, and is its address right?")


@pytest.mark.parametrize(
    ("scheme", "protocol", "status", "says"),
    [
        ("https", "http/protobuf", 400, "OTEL_EXPORTER_OTLP_ENDPOINT begin with http://?"),
        ("https", "grpc", 400, "OTEL_EXPORTER_OTLP_ENDPOINT begin with http://?"),
        ("http", "grpc", 400, "is it the HTTP port (4318), or another server?"),
        ("http", "http/protobuf", 404, "never to OTEL_EXPORTER_OTLP_METRICS_ENDPOINT."),
        ("http", "http/protobuf", 200, "is OTEL_EXPORTER_OTLP_ENDPOINT the collector's address?"),
        ("http", "http/protobuf", 503, "answered 503."),
        ("http", "http/protobuf", 0, "is it a TLS port (https://) or that of gRPC (4317)?"),
    ],
)
def test_where_a_collector_s_fault_is_known_nothing_else_is_asked(
    scheme: str,
    protocol: str,
    status: int,
    says: str,
    alone: dict[str, str],
    exporter: ExporterRunner,
) -> None:
    def answer_in_plain_http(connection: socket.socket, _: Event) -> None:
        connection.recv(65536)
        if status:
            connection.sendall(f"HTTP/1.1 {status} -\r\nConnection: close\r\n\r\n-".encode())

    with Listener(answer_in_plain_http) as other:
        env = with_collector(alone, f"{scheme}://127.0.0.1:{other.port}", protocol)
        said = lines(exporter, env)["collector"]
    assert said.startswith("WRONG ")
    assert said.endswith(says)
    assert "is it running" not in said


def say_nothing(_: socket.socket, ended: Event) -> None:
    ended.wait()


def with_collector(env: Mapping[str, str], endpoint: str, protocol: str) -> dict[str, str]:
    return {
        **env,
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    }


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("", "timed out: the server does not answer; mend the URL"),
        ("?tls=true", "timed out: the server does not answer; does it speak TLS? Mend the URL"),
    ],
)
def test_a_database_that_answers_nothing_is_one_line(
    alone: dict[str, str], exporter: ExporterRunner, option: str, says: str
) -> None:
    with Listener(say_nothing) as silent:
        url = f"mongodb://127.0.0.1:{silent.port}/x{option}"
        done = exporter("check", env=with_database(alone, url))
    found = by_subject(done.stdout)
    assert done.returncode == 1
    assert found["database"].startswith("WRONG ")
    assert says in found["database"]
    assert "answers." not in found["database"]
    assert not [subject for subject in found if subject.startswith("novu.")]


def with_database(env: Mapping[str, str], url: str) -> dict[str, str]:
    return {**env, "NOVU_TELEMETRY": "on", "MONGO_URL": url, "OTEL_NOVU_QUERY_TIMEOUT": "2"}


@pytest.mark.parametrize("place", ["/proc/otel-novu-test", "/sys/otel-novu-test/state", "/proc/fs"])
def test_a_place_where_the_kernel_keeps_no_files_is_wrong(
    alone: dict[str, str], exporter: ExporterRunner, place: str
) -> None:
    need_root()
    found = lines(exporter, {**alone, "OTEL_NOVU_STATE_DIR": place})
    kind = place.split("/")[1].replace("sys", "sysfs")
    assert found["state directory"] == (
        f"WRONG {place} keeps nothing: it lies on the kernel's own file system {kind}; "
        "set OTEL_NOVU_STATE_DIR to a directory of your own."
    )


def test_a_url_from_a_file_is_not_mended_in_another_variable(
    alone: dict[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    file = tmp_path / "url"
    file.write_text(f"mongodb://127.0.0.1:{free_port()}/x\n")
    named = {name: text for name, text in with_database(alone, "").items() if name != "MONGO_URL"}
    says = lines(exporter, {**named, "MONGO_URL_FILE": str(file)})["database"]
    assert says.endswith("; mend the URL of MONGO_URL or MONGO_URL_FILE, or what it names.")


def test_figures_that_all_time_out_are_told_where_the_collections_are(
    alone: dict[str, str], exporter: ExporterRunner
) -> None:
    names = {"id": 0, "ns": "x.$cmd.listCollections", "firstBatch": [{"name": "users"}]}
    well = answering(listCollections={"ok": 1.0, "cursor": names})

    def script(command: Document) -> Document:
        if command.get("$db") == "x" and "listCollections" not in command:
            raise Hang
        return well(command)

    with scripted_mongo(script) as server:
        done = exporter("check", env=with_database(alone, f"mongodb://127.0.0.1:{server.port}/x"))
    found = by_subject(done.stdout)
    assert found["database"].endswith("answers.")
    assert found["novu.user.count"].startswith("WRONG timed out")
    assert done.returncode == 1
