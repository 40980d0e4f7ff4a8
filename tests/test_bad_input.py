"""What a user gets wrong, each case by the process: exit code 2, one sentence, no secret."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trustme
from in_process import call
from real_faults import NOBODY, as_nobody, need_root, open_ground
from servers import ExporterRunner

# In what is set wrongly, and in what is set rightly beside it.
SECRET = "S3CRETMARK0123456789"
RIGHT = {
    "MONGO_URL": f"mongodb://root:{SECRET}@127.0.0.1:1/novu-db",
    "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET}",
    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://root:{SECRET}@127.0.0.1:1",
}

Files = Callable[[Path], Mapping[str, str]]

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
METRICS_TIMEOUT = "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT"
QUERY_TIMEOUT = "OTEL_NOVU_QUERY_TIMEOUT"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
STATE_DIR = "OTEL_NOVU_STATE_DIR"
CERTIFICATE = "OTEL_EXPORTER_OTLP_CERTIFICATE"
CLIENT_CERTIFICATE = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
CLIENT_KEY = "OTEL_EXPORTER_OTLP_CLIENT_KEY"
TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"

# By variable: values, what the sentence says is wrong, and of what is accepted the beginning.
WORDS: list[tuple[str, list[str], str, str]] = [
    ("NOVU_TELEMETRY", ["maybe", "of", SECRET], "a word that it does not know", "true or false"),
    ("OTEL_NOVU_ANONYMIZE", ["maybe"], "a word that it does not know", "true or false"),
    (INTERVAL, ["0", "-1", "-0.5", "1e-400"], "is not greater than 0", "milliseconds, from 1"),
    (INTERVAL, ["nan", "inf", "-inf", "1h", SECRET], "is not a number", "milliseconds, from 1"),
    (INTERVAL, ["1e30"], "is too large", "milliseconds, from 1 to 604800000"),
    (QUERY_TIMEOUT, ["0", "-1"], "is not greater than 0", "seconds, from 0.001"),
    (QUERY_TIMEOUT, ["nan", "inf", "5s"], "is not a number", "seconds, from 0.001"),
    (TIMEOUT, ["0", "-1"], "is not greater than 0", "seconds, from 0.001"),
    (TIMEOUT, ["nan", "inf", "1h"], "is not a number", "seconds, from 0.001"),
    (TIMEOUT, ["600", "10000"], "counts seconds, not milliseconds", "seconds, from 0.001"),
    (METRICS_TIMEOUT, ["600"], "counts seconds, not milliseconds", "seconds, from 0.001"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", ["http/json", "udp"], "a word that", "http/protobuf or grpc"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", ["zip"], "a word that it does not know", "none, gzip or"),
    ("OTEL_METRICS_EXPORTER", ["prometheus", "otlp,"], "an unknown exporter", "otlp, console"),
    ("OTEL_METRICS_EXPORTER", ["otlp,none"], "holds none beside another", "otlp, console"),
    (TEMPORALITY, ["delta"], "the collector's cumulativetodelta processor", "cumulative or"),
    (TEMPORALITY, ["sometimes"], "a word that it does not know", "cumulative or"),
    (ENDPOINT, ["http://", "https:///v1"], "has no host", "http://host:port or https"),
    (ENDPOINT, [f"ftp://root:{SECRET}@host/"], "has a scheme other than", "http://host:port"),
    (ENDPOINT, [f"collector:4318/{SECRET}"], "does not begin with http", "http://host:port"),
    (ENDPOINT, [f"http://root:{SECRET}@host:0x50"], "port", "http://host:port"),
    (METRICS_ENDPOINT, ["http://"], "has no host", "http://host:port"),
    (HEADERS, [SECRET, f"a=b,{SECRET}"], "holds no = in item", "key=value,key2=value2"),
    (HEADERS, [f"a b={SECRET}"], "item 1 of 1", "key=value,key2=value2"),
    ("OTEL_RESOURCE_ATTRIBUTES", [SECRET], "holds no = in item 1 of 1", "key=value"),
    ("MONGO_URL", [f"mongo://root:{SECRET}@host"], "neither mongodb:// nor", "a mongodb://"),
    ("MONGO_URL", [SECRET], "neither mongodb:// nor", "a mongodb:// or mongodb+srv:// URL"),
    ("MONGO_URL", [f"mongodb://root:{SECRET}@host:99999/x"], "its port", "a mongodb://"),
    ("MONGO_URL", [f"mongodb://root:{SECRET}@host:port/x"], "its port", "a mongodb://"),
    ("MONGO_URL", [f"mongodb://root:{SECRET}/x@host/x"], "percent-encoded", "a mongodb://"),
    ("OTEL_NOVU_INSTANCE_ID", ["novu-1", SECRET], "is no UUID", "a UUID such as"),
    ("OTEL_NOVU_SPOOL_MAX_AGE", ["1 week"], "is not a length of time", "days, hours"),
    ("OTEL_NOVU_SPOOL_MAX_BYTES", ["1"], "is too small", "bytes, KiB"),
    ("OTEL_LOG_LEVEL", ["loud"], "a word that it does not know", "debug, info"),
]


def foreign(path: Path) -> Path:
    need_root()
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)
    return path


def open_to_others(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path


def written(path: Path, text: str = SECRET) -> Path:
    path.write_text(text)
    return path


def linked(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def certificate_without_its_key(folder: Path) -> Mapping[str, str]:
    mine, other = (trustme.CA().issue_cert("example.org") for _ in range(2))
    mine.cert_chain_pems[0].write_to_path(folder / "mine.pem")
    other.private_key_pem.write_to_path(folder / "other.key")
    return {
        CLIENT_CERTIFICATE: str(folder / "mine.pem"),
        CLIENT_KEY: str(folder / "other.key"),
    }


# By the variable that is named: what is made in a folder, and what the sentence says is wrong.
PLACES: list[tuple[str, Files, str]] = [
    (STATE_DIR, lambda at: {STATE_DIR: str(written(at / "file"))}, "is a file"),
    (STATE_DIR, lambda at: {STATE_DIR: str(written(at / "file") / "x")}, "lies below something"),
    (STATE_DIR, lambda at: {STATE_DIR: str(foreign(at / "its"))}, f"belongs to user {NOBODY}"),
    (STATE_DIR, lambda at: {STATE_DIR: str(open_to_others(at / "open"))}, "written to by others"),
    (STATE_DIR, lambda at: {STATE_DIR: str(linked(at / "link", at))}, "is a symbolic link"),
    (STATE_DIR, lambda _: {STATE_DIR: "~/state"}, "begins with ~"),
    (CERTIFICATE, lambda at: {CERTIFICATE: str(at / "none.pem")}, "does not exist"),
    (CERTIFICATE, lambda at: {CERTIFICATE: str(written(at / "x.pem"))}, "holds no certificate"),
    (CERTIFICATE, lambda at: {CERTIFICATE: str(at)}, "Is a directory"),
    (CLIENT_KEY, lambda at: {CLIENT_KEY: str(written(at / "key"))}, "is not"),
    (CLIENT_KEY, certificate_without_its_key, "key"),
    ("MONGO_URL_FILE", lambda at: {"MONGO_URL_FILE": str(at / "none")}, "does not exist"),
    ("MONGO_URL_FILE", lambda at: {"MONGO_URL_FILE": str(at)}, "Is a directory"),
    ("MONGO_URL_FILE", lambda at: {"MONGO_URL_FILE": str(written(at / "u"))}, "neither mongodb://"),
]


def check_refusal(code: int, out: str, err: str, *said: str) -> None:
    assert code == 2, err
    assert out == ""
    assert err.startswith("otel-novu: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for part in said:
        assert part in err
    assert "accepted" in err
    assert SECRET not in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "value", "wrong", "accepted"),
    [(name, value, *rest) for name, values, *rest in WORDS for value in values],
)
def test_a_value_that_can_not_be_used_ends_run_with_2_and_one_sentence(
    name: str, value: str, wrong: str, accepted: str, exporter: ExporterRunner
) -> None:
    done = exporter("run", env={**RIGHT, name: value})
    check_refusal(done.returncode, done.stdout, done.stderr, f"{name} ", wrong, accepted)


@pytest.mark.parametrize(("name", "make", "wrong"), PLACES)
def test_a_place_that_can_not_be_used_ends_run_with_2_and_one_sentence(
    name: str, make: Files, wrong: str, tmp_path: Path, exporter: ExporterRunner
) -> None:
    given = make(tmp_path)
    right = {k: v for k, v in RIGHT.items() if k != "MONGO_URL" or "MONGO_URL_FILE" not in given}
    done = exporter("run", env={**right, **given})
    check_refusal(done.returncode, done.stdout, done.stderr, name, wrong)


COMMANDS = [
    ["run"],
    ["once"],
    ["check"],
    ["show"],
    ["show", "--otlp"],
    ["show", "--last"],
    ["health"],
    ["telemetry", "status"],
    ["telemetry", "disable"],
    ["spool"],
    ["spool", "--flush"],
    ["reset-id"],
]


@pytest.mark.parametrize("arguments", [*COMMANDS, ["show", "--queries"]], ids=" ".join)
def test_every_command_refuses_a_wrong_setting_in_the_same_way(
    arguments: list[str], exporter: ExporterRunner
) -> None:
    done = exporter(*arguments, env={**RIGHT, "MONGO_URL": f"mongo://root:{SECRET}@host"})
    check_refusal(done.returncode, done.stdout, done.stderr, "MONGO_URL ")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_refuses_a_state_directory_that_is_open_to_others(
    arguments: list[str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    done = exporter(*arguments, env={**RIGHT, STATE_DIR: str(open_to_others(tmp_path / "open"))})
    check_refusal(done.returncode, done.stdout, done.stderr, STATE_DIR)


def test_both_ways_to_name_the_database_are_refused_within_one_source_only(
    tmp_path: Path, exporter: ExporterRunner
) -> None:
    file = written(tmp_path / "url", RIGHT["MONGO_URL"])
    both = exporter("run", env={**RIGHT, "MONGO_URL_FILE": str(file)})
    check_refusal(both.returncode, both.stdout, both.stderr, "MONGO_URL and MONGO_URL_FILE")

    (tmp_path / ".env").write_text(f"MONGO_URL={RIGHT['MONGO_URL']}\n")
    one = exporter("show", "--queries", env={"MONGO_URL_FILE": str(file)}, cwd=tmp_path)
    assert one.returncode == 0, one.stderr


def test_an_env_file_that_is_not_there_is_refused_by_its_name(
    tmp_path: Path, exporter: ExporterRunner
) -> None:
    done = exporter("run", "--env-file", str(tmp_path / "none.env"), env=RIGHT)
    check_refusal(done.returncode, done.stdout, done.stderr, "none.env", "No such file")


@pytest.mark.parametrize(
    "content",
    [
        f"MONGO_URL {SECRET}\n".encode(),
        f"NOVU_TELEMETRY='{SECRET}\n".encode(),
        b"NOVU_TELEMETRY=\xff\xfe" + SECRET.encode(),
        f"MONGO_URL=${{{SECRET}\n".encode(),
    ],
    ids=["no =", "open quote", "no UTF-8", "open brace"],
)
def test_an_env_file_that_makes_no_sense_is_refused_without_its_content(
    content: bytes, tmp_path: Path, exporter: ExporterRunner
) -> None:
    (tmp_path / ".env").write_bytes(content)
    done = exporter("run", env=RIGHT, cwd=tmp_path)
    check_refusal(done.returncode, done.stdout, done.stderr, ".env")


def test_a_wrong_value_in_the_env_file_is_refused_like_one_in_the_environment(
    tmp_path: Path, exporter: ExporterRunner
) -> None:
    (tmp_path / ".env").write_text(f"NOVU_TELEMETRY={SECRET}\n")
    done = exporter("run", env=RIGHT, cwd=tmp_path)
    check_refusal(done.returncode, done.stdout, done.stderr, "NOVU_TELEMETRY ")


@pytest.mark.parametrize(
    ("name", "file"), [("MONGO_URL_FILE", "url"), (CERTIFICATE, "ca.pem"), (".env", ".env")]
)
def test_a_file_that_the_user_may_not_read_is_refused_by_its_name(name: str, file: str) -> None:
    with open_ground() as ground:
        written(ground / file).chmod(0o600)

        def case() -> str:
            os.chdir(ground)
            return call(["run"], {} if name == ".env" else {name: file})

        code, out, err = as_nobody(case).split("\0")
        check_refusal(int(code), out, err, name, "Permission denied")


def test_an_empty_variable_is_an_unset_one(exporter: ExporterRunner) -> None:
    empty = dict.fromkeys([*(word[0] for word in WORDS), *(place[0] for place in PLACES)], "")
    done = exporter("health", env=empty)
    assert done.returncode == 1
    assert done.stderr == "not ok: no `otel-novu run` holds the state directory\n"
