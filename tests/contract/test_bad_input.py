"""What a user sets wrongly: exit code 2 and one sentence, or a warning, and never a secret."""

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from servers import ExporterRunner

pytestmark = pytest.mark.contract

# In what is set wrongly, and in what is set rightly beside it.
SECRET = "S3CRETMARK0123456789"
URL = f"mongodb://root:{SECRET}@127.0.0.1:1/novu-db"
RIGHT = {
    "MONGO_URL": URL,
    "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET}",
    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://root:{SECRET}@127.0.0.1:1",
}
OTLP, URL_FILE = "OTEL_EXPORTER_OTLP_", "MONGO_URL_FILE"
STATE_DIR, INTERVAL = "OTEL_NOVU_STATE_DIR", "OTEL_METRIC_EXPORT_INTERVAL"

# By variable: values, and of what is accepted an essential word. URL is there by mistake.
ERRORS: list[tuple[str, list[str], str]] = [
    ("NOVU_TELEMETRY", ["maybe", "of", URL], "on"),
    ("OTEL_NOVU_ANONYMIZE", ["maybe"], "true"),
    ("OTEL_NOVU_QUERY_TIMEOUT", ["0", "-1", "nan", "inf", "5s"], "seconds"),
    (f"{OTLP}TIMEOUT", ["600"], "seconds"),
    (f"{OTLP}METRICS_TIMEOUT", ["600"], "seconds"),
    (f"{OTLP}ENDPOINT", ["http://", "https:///v1", f"ftp://root:{SECRET}@host/"], "http"),
    (f"{OTLP}ENDPOINT", [f"collector:4318/{SECRET}", f"http://root:{SECRET}@host:0x50"], "http"),
    (f"{OTLP}METRICS_ENDPOINT", ["http://"], "http"),
    (f"{OTLP}HEADERS", [SECRET, f"a=b,{SECRET}", f"a b={SECRET}"], "key=value"),
    ("MONGO_URL", [f"mongo://root:{SECRET}@host", SECRET], "mongodb://"),
    ("MONGO_URL", [f"mongodb://root:{SECRET}@host:{n}/x" for n in ("99999", "port")], "port"),
    ("MONGO_URL", [f"mongodb://root:{SECRET}/x@host/x"], "percent-encode|%2F"),
    ("MONGO_URL", [f"{URL}?tlsCAFile={p}" for p in ("/nowhere.pem", "/dev/null")], "tlsCAFile"),
    ("MONGO_URL", [f"{URL}?authMechanism=none-such"], "authMechanism"),
    ("OTEL_NOVU_INSTANCE_ID", ["novu-1", URL], "UUID"),
    ("OTEL_NOVU_SPOOL_MAX_AGE", ["1 week", "-1"], "days"),
    ("OTEL_NOVU_SPOOL_MAX_BYTES", ["1", "-64MiB", f"{10**26}"], "64KiB"),
]

# By variable: values that are ignored with a warning.
WARNINGS = {
    INTERVAL: ["0", "-1", "60", "999", "nan", "1h", "1e30", URL],
    "OTEL_METRICS_EXPORTER": ["prometheus", "prometheus,otlp", "otlp,none"],
    f"{OTLP}PROTOCOL": ["http/json", "udp"],
    f"{OTLP}COMPRESSION": ["zip"],
    f"{OTLP}INSECURE": ["1"],
    f"{OTLP}TIMEOUT": ["0", "-1", "nan", "inf", "1h"],
    f"{OTLP}METRICS_TEMPORALITY_PREFERENCE": ["delta", "sometimes"],
    "OTEL_SDK_DISABLED": ["1", "garbage", URL],
    "OTEL_LOG_LEVEL": ["verbose", "trace", "none"],
    "OTEL_RESOURCE_ATTRIBUTES": [URL, "service.instance.id=1"],
    "OTEL_CONFIG_FILE": ["otel.yaml"],
    "OTEL_METRIC_EXPORT_TIMEOUT": ["30000"],
}
MISSPELLED = {"OTEL_NOVU_STATE_DIRECTORY": ["/x"], "NOVU_TELEMETY": ["false"]}


def check_refusal(done: CompletedProcess[str], *words: str) -> None:
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.fullmatch(r"otel-novu: [^\n]+\n", done.stderr)
    assert all(re.search(word, done.stderr) for word in words), done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [(name, value, accepted) for name, values, accepted in ERRORS for value in values],
)
def test_a_value_that_can_not_be_used_ends_run_with_2_and_one_sentence(
    name: str, value: str, accepted: str, exporter: ExporterRunner
) -> None:
    check_refusal(exporter("run", env={**RIGHT, name: value}), name, accepted)


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in (WARNINGS | MISSPELLED).items() for v in values]
)
def test_a_value_or_a_name_that_only_misleads_is_a_warning(
    name: str, value: str, exporter: ExporterRunner
) -> None:
    done = exporter("spool", env={**RIGHT, name: value})
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(f"[^\n]+ WARNING [^\n]*{name}[^\n]+\n", done.stderr)
    assert SECRET not in done.stderr


def open_to_others(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path


def written(path: Path) -> Path:
    path.write_text(SECRET)
    return path


PLACES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "state in a file": (STATE_DIR, lambda at: written(at / "file")),
    "state below a file": (STATE_DIR, lambda at: written(at / "file") / "x"),
    "open state": (STATE_DIR, lambda at: open_to_others(at / "open")),
    "state at home": (STATE_DIR, lambda _: Path("~/state")),
    "no certificate": (f"{OTLP}CERTIFICATE", lambda at: written(at / "x.pem")),
    "no URL file": (URL_FILE, lambda at: at / "none"),
    "no URL in the file": (URL_FILE, lambda at: written(at / "u")),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_can_not_be_used_ends_run_with_2_and_one_sentence(
    place: str, tmp_path: Path, exporter: ExporterRunner
) -> None:
    name, make = PLACES[place]
    right = RIGHT | ({"MONGO_URL": ""} if name == URL_FILE else {})
    check_refusal(exporter("run", env=right | {name: str(make(tmp_path))}), name)


READERS = ["run", "once", "check", "show", "show --last"]
COMMANDS = ["health", "telemetry status", "telemetry disable", "spool", "spool --flush", "reset-id"]


@pytest.mark.parametrize("command", READERS + COMMANDS)
def test_every_command_refuses_bad_input_in_the_same_way(
    command: str, tmp_path: Path, exporter: ExporterRunner
) -> None:
    bad_url = {"MONGO_URL": f"mongo://root:{SECRET}@host"}
    open_state = {STATE_DIR: str(open_to_others(tmp_path / "open"))}
    for bad in (bad_url, open_state) if command in READERS else (open_state,):
        check_refusal(exporter(*command.split(), env=RIGHT | bad), *bad)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_a_database_does_not_read_its_url(
    command: str, exporter: ExporterRunner
) -> None:
    bad = {"MONGO_URL": f"mongo://root:{SECRET}@host", URL_FILE: "/nonexistent"}
    done, same = (exporter(*command.split(), env=env) for env in (RIGHT | bad, RIGHT))
    assert (done.returncode, done.stderr) == (same.returncode, same.stderr)
    assert SECRET not in done.stdout + done.stderr


def test_an_env_file_is_expanded_and_one_that_makes_no_sense_is_refused_without_its_content(
    tmp_path: Path, exporter: ExporterRunner
) -> None:
    file, url = tmp_path / "novu.env", tmp_path / "url"
    bad = [f"MONGO_URL {SECRET}", f"NOVU_TELEMETRY='{SECRET}", f"A=${{{SECRET}", f"X=\xff{SECRET}"]
    for content in bad:
        (tmp_path / ".env").write_text(content, encoding="latin-1")
        check_refusal(exporter("run", env=RIGHT, cwd=tmp_path), r"\.env")
    check_refusal(exporter("run", "--env-file", str(file), env=RIGHT), "novu.env")
    check_refusal(exporter("run", "--env-file", "", env=RIGHT), "--env-file")
    url.write_text(URL)
    check_refusal(exporter("run", env={**RIGHT, URL_FILE: str(url)}), "MONGO_URL", URL_FILE)
    file.write_text(f'FLAG=off\nNOVU_TELEMETRY="${{FLAG:-on}}"\nMONGO_URL={URL}\n')
    env = {URL_FILE: str(url), STATE_DIR: str(tmp_path / "state")}  # they win
    done = exporter("telemetry", "status", "--env-file", str(file), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "off, decided by NOVU_TELEMETRY" in done.stdout


def test_an_empty_variable_is_an_unset_one(exporter: ExporterRunner) -> None:
    names = {*(name for name, *_ in ERRORS), *WARNINGS, STATE_DIR, URL_FILE}
    done = exporter("telemetry", "status", env=dict.fromkeys(names, ""))
    assert (done.returncode, done.stderr) == (0, "")
