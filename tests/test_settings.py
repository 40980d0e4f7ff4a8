import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.settings import VARIABLES, Protocol, Settings, SettingsError, load

NOWHERE = Path("/nonexistent/otel-novu")
NAMES = [name for row in VARIABLES for name in row.names]
LENIENT = [name for row in VARIABLES if row.lenient for name in row.names]
STRICT = [name for name in NAMES if name not in LENIENT]
OTLP = "OTEL_EXPORTER_OTLP"
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
TEMPORALITY = f"{OTLP}_METRICS_TEMPORALITY_PREFERENCE"
RESERVED = ["content-length", "transfer-encoding", "content-encoding", "content-type", "connection"]
RESERVED += ["te", "host"]
UUID_TEXT = "ba54fb29-6422-4a83-a0e4-951d767efa73"


def read(environ: Mapping[str, str], cwd: Path = NOWHERE) -> Settings:
    return load(environ, env_file=None, cwd=cwd, home=Path("/home/u"))


def error(environ: Mapping[str, str], cwd: Path = NOWHERE) -> str:
    with pytest.raises(SettingsError) as raised:
        read(environ, cwd)
    message = str(raised.value)
    assert "MARK" not in message
    assert "; expected " in message
    assert "\n" not in message
    return message


def mongo_url(settings: Settings) -> str:
    return settings.mongo_url.reveal() if settings.mongo_url else ""


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = read({})
    assert (settings.telemetry, settings.mongo_url, settings.instance_id) == (None, None, None)
    assert settings.state_dir == Path("/home/u/.local/state/otel-novu")
    assert (settings.anonymize, settings.sdk_disabled, settings.warnings) == (False, False, ())
    assert (settings.query_timeout, settings.interval) == (5, 3600)
    assert (settings.spool_max_age, settings.spool_max_bytes) == (7 * 86400, 64 * 2**20)
    assert (settings.exporters, settings.log_level) == (("otlp",), logging.INFO)
    assert (settings.service_name, settings.resource_attributes) == ("novu", {})
    otlp = settings.otlp
    assert otlp.endpoint.reveal() == "http://localhost:4318/v1/metrics"
    assert (otlp.protocol, otlp.gzip) == (Protocol.HTTP, False)
    assert (otlp.headers, otlp.timeout) == ({}, 10)
    assert (otlp.ca_file, otlp.client_certificate, otlp.client_key) == (None, None, None)


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_variable_is_an_unset_one(text: str) -> None:
    assert read(dict.fromkeys(NAMES, text)) == read({})


@pytest.mark.parametrize("form", ['"{}"', "'{}'", ' " {} " ', """ '"{}"' """])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NOVU_TELEMETRY", "false"),
        ("MONGO_URL", "mongodb://h"),
        ("OTEL_NOVU_STATE_DIR", "/data"),
        ("STATE_DIRECTORY", "/data"),
        ("XDG_STATE_HOME", "/data"),
        ("OTEL_SERVICE_NAME", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=mine"),
        (f"{OTLP}_HEADERS", "a=b"),
        (f"{OTLP}_ENDPOINT", "http://h:4318"),
        (f"{OTLP}_METRICS_PROTOCOL", "grpc"),
        (INTERVAL, "60000"),
    ],
)
def test_quotes_around_a_value_are_removed_with_a_warning(
    tmp_path: Path, name: str, text: str, form: str
) -> None:
    warning = f"{name}: the quotes around the value are removed"
    quoted = form.format(text)
    escaped = quoted.replace("'", "\\'")
    (tmp_path / ".env").write_text(f"{name}='{escaped}'\n")
    for environ in ({name: quoted}, {name: quoted, "OTEL_NOVU_ANONYMIZE": "off"}, {}):
        settings = read(environ, tmp_path)
        assert (settings.warnings, settings.to_fix) == ((warning,), frozenset())
        assert replace(settings, warnings=()) == read({name: text})


def test_quotes_inside_a_value_stay() -> None:
    text = """a='1',b='2'"""
    assert read({"OTEL_RESOURCE_ATTRIBUTES": text}).resource_attributes == {"a": "'1'", "b": "'2'"}
    assert read({"OTEL_SERVICE_NAME": "'a' and 'b'"}).service_name == "'a' and 'b'"


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        *[("NOVU_TELEMETRY", word, "telemetry", True) for word in ("true", "1", "YES", " On ")],
        *[("NOVU_TELEMETRY", word, "telemetry", False) for word in ("False", "0", "no", "off\n")],
        ("OTEL_NOVU_ANONYMIZE", "yes", "anonymize", True),
        ("OTEL_NOVU_STATE_DIR", "/var/lib/x", "state_dir", Path("/var/lib/x")),
        ("OTEL_NOVU_STATE_DIR", "state dir", "state_dir", NOWHERE / "state dir"),
        ("XDG_STATE_HOME", "/xdg", "state_dir", Path("/xdg/otel-novu")),
        ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b", "state_dir", Path("/var/lib/a")),
        ("XDG_STATE_HOME", "xdg", "state_dir", Path("/home/u/.local/state/otel-novu")),
        ("OTEL_NOVU_INSTANCE_ID", UUID_TEXT.upper(), "instance_id", UUID(UUID_TEXT)),
        ("OTEL_NOVU_QUERY_TIMEOUT", "2.5", "query_timeout", 2.5),
        ("OTEL_NOVU_SPOOL_MAX_AGE", "1.5h", "spool_max_age", 5400),
        ("OTEL_NOVU_SPOOL_MAX_AGE", "2 D", "spool_max_age", 172800),
        ("OTEL_NOVU_SPOOL_MAX_BYTES", "1gib", "spool_max_bytes", 2**30),
        (INTERVAL, "1000", "interval", 1),
        ("OTEL_METRICS_EXPORTER", "OTLP, Console,otlp", "exporters", ("otlp", "console")),
        ("OTEL_METRICS_EXPORTER", "none", "exporters", ()),
        ("OTEL_SDK_DISABLED", "TRUE", "sdk_disabled", True),
        ("OTEL_SERVICE_NAME", "mine", "service_name", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%20b", "service_name", "a b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=", "service_name", "novu"),
        ("OTEL_LOG_LEVEL", "Warn", "log_level", logging.WARNING),
    ],
)
def test_a_value_is_read(name: str, text: str, field: str, value: object) -> None:
    settings = read({name: text})
    assert getattr(settings, field) == value
    assert settings.warnings == ()


def test_the_variable_for_metrics_wins() -> None:
    environ = {f"{OTLP}_TIMEOUT": "1", f"{OTLP}_METRICS_TIMEOUT": "2"}
    assert read(environ).otlp.timeout == 2
    assert read({**environ, f"{OTLP}_METRICS_TIMEOUT": ""}).otlp.timeout == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0.5", 0.5), ("599.9", 599.9), ("1000", 1), ("10000", 10), ("599999", 599.999)],
)
def test_a_timeout_is_in_seconds_or_from_1000_in_milliseconds(text: str, seconds: float) -> None:
    assert read({f"{OTLP}_TIMEOUT": text}).otlp.timeout == seconds


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        (" a = 1 , b=2,,a=3,", {"a": "3", "b": "2"}),
        ("a=b=c,d=", {"a": "b=c", "d": ""}),
        ("a%2Eb=x%2Cy%3Dz%25%C3%A9", {"a.b": "x,y=z%é"}),
        ("service.name=x,service.namespace=y", {"service.namespace": "y"}),
    ],
)
def test_resource_attributes_are_a_list(text: str, attributes: dict[str, str]) -> None:
    assert read({"OTEL_RESOURCE_ATTRIBUTES": text}).resource_attributes == attributes


def test_headers_are_a_list() -> None:
    headers = read({f"{OTLP}_HEADERS": "Api-Key=v, b = %C3%A9 ,c=Basic dTpw=="}).otlp.headers
    assert [header.reveal() for header in headers.values()] == ["v", "é", "Basic dTpw=="]
    assert list(headers) == ["api-key", "b", "c"]
    assert "trace-bin" in read({f"{OTLP}_HEADERS": "trace-bin=v"}).otlp.headers


@pytest.mark.parametrize(
    ("name", "text", "clause"),
    [
        ("NOVU_TELEMETRY", "flase", "'flase' is not valid; expected true/false, 1/0, yes/no or"),
        ("MONGO_URL", "http://u:MARK@h/d", "is not a MongoDB URL; expected a mongodb:// or"),
        ("MONGO_URL", "mongodb://$USER:MARK@h/d", "contains a $NAME that was not expanded"),
        ("MONGO_URL", "mongodb://u:${MARK}@h/d", "contains a $NAME that was not expanded"),
        ("MONGO_URL_FILE", "mongodb://u:MARK@h/d", "is not a path"),
        ("OTEL_NOVU_STATE_DIR", "~/state", "'~/state' is not a path"),
        ("OTEL_NOVU_INSTANCE_ID", "novu-1", "'novu-1' is not valid; expected a UUID such as"),
        ("OTEL_NOVU_QUERY_TIMEOUT", "0", "'0' is out of range; expected seconds, from 0.001"),
        ("OTEL_NOVU_SPOOL_MAX_AGE", "1 week", "'1 week' is not valid; expected days, hours"),
        ("OTEL_NOVU_SPOOL_MAX_BYTES", "64MB", "'64MB' is not valid; expected bytes, KiB"),
        ("OTEL_NOVU_SPOOL_MAX_BYTES", "9" * 5000, "is out of range"),
        (f"{OTLP}_TIMEOUT", "600", "'600' could be seconds or milliseconds; expected seconds"),
        (f"{OTLP}_METRICS_TIMEOUT", "999.9", "'999.9' could be seconds or milliseconds"),
        (f"{OTLP}_HEADERS", "Authorization: Bearer MARK", "has no valid key=value in item 1"),
        (f"{OTLP}_METRICS_HEADERS", "a=1,MARK", "has no valid key=value in item 2"),
        (f"{OTLP}_HEADERS", "a=MARK%0D%0Ab", "has no valid key=value in item 1"),
        (f"{OTLP}_HEADERS", "a b=MARK", "has a quotation mark, or a name"),
        (f"{OTLP}_HEADERS", 'a="MARK"', "has a quotation mark, or a name"),
        *[
            (f"{OTLP}_HEADERS", f"a=MARK,{name}=MARK", f"sets {name}, which otel-novu sets itself")
            for name in RESERVED
        ],
        (f"{OTLP}_HEADERS", "Content%2Dtype=MARK", "sets content-type, which otel-novu sets"),
        *[(name, "MARK\udcff", "has control characters or is not UTF-8") for name in STRICT],
    ],
)
def test_an_invalid_value_is_an_error_that_says_what_is_accepted(
    name: str, text: str, clause: str
) -> None:
    assert error({name: text}).startswith(f"{name}: {clause}")


@pytest.mark.parametrize(
    ("name", "text", "warning"),
    [
        (INTERVAL, "60", "'60' is not valid; expected milliseconds.*60 would be 0.06 s.*3600000"),
        (INTERVAL, "-5000", "'-5000' is not valid"),
        (INTERVAL, "604800001", "'604800001' is more than 7 days; expected milliseconds"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "'prometheus' is not valid.*; using otlp"),
        ("OTEL_METRICS_EXPORTER", "prometheus,otlp", "'prometheus,otlp' is not.*; using the rest"),
        ("OTEL_METRICS_EXPORTER", "otlp,none", "'otlp,none' is not valid.*; using the rest"),
        ("OTEL_METRICS_EXPORTER", ",", "',' is not valid.*; using otlp"),
        (f"{OTLP}_TIMEOUT", "10s", "'10s' is not valid; expected seconds.*; using 10"),
        (f"{OTLP}_TIMEOUT", "0", "'0' is out of range"),
        (f"{OTLP}_METRICS_TIMEOUT", "600000", "'600000' is out of range"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "a=b,=MARK",
            "has no valid key=value in item 2; .*; the variable is ignored",
        ),
        (
            "OTEL_SERVICE_NAME",
            "a\nb",
            "has control characters or is not UTF-8.*; the variable is ignored",
        ),
        *[(name, "MARK\udcff", "has control characters or is not UTF-8") for name in LENIENT],
        (f"{OTLP}_PROTOCOL", "http/json", "expected http/protobuf or grpc; using http/protobuf"),
        (f"{OTLP}_INSECURE", "1", "'1' is not valid; expected true or false; using false"),
        (f"{OTLP}_METRICS_COMPRESSION", "deflate", "expected none or gzip; using none"),
        (TEMPORALITY, "DELTA", "'DELTA' is not valid.*cumulativetodelta processor.*cumulative"),
        ("OTEL_SDK_DISABLED", "1", "'1' is not valid; expected true or false; using false"),
        ("OTEL_LOG_LEVEL", "verbose", "'verbose' is not valid; expected debug, .*; using info"),
        ("OTEL_LOG_LEVEL", "none", "'none' is not valid"),
    ],
)
def test_where_opentelemetry_ignores_a_value_it_is_a_warning(
    name: str, text: str, warning: str
) -> None:
    settings = read({name: text})
    assert replace(settings, warnings=(), to_fix=frozenset()) == read({})
    (message,) = settings.warnings
    assert message.startswith(f"{name}: ")
    assert re.search(warning, message)
    assert "MARK" not in message
    assert settings.to_fix == {message}


@pytest.mark.parametrize(
    ("text", "exporters"),
    [
        ("Prometheus, console", ("console",)),
        ("console,none,otlp", ("console", "otlp")),
        ("none,prometheus", ()),
        ("otlp,", ("otlp",)),
    ],
)
def test_exporters_that_are_known_still_count(text: str, exporters: tuple[str, ...]) -> None:
    settings = read({"OTEL_METRICS_EXPORTER": text})
    assert (settings.exporters, len(settings.warnings)) == (exporters, 1)


def test_attributes_that_we_set_are_ignored_with_one_warning() -> None:
    text = "service.instance.id=MARK,a=b,telemetry.sdk.name=MARK,telemetry%2Edistro.name=MARK"
    settings = read({"OTEL_RESOURCE_ATTRIBUTES": text})
    assert (settings.resource_attributes, settings.to_fix) == ({"a": "b"}, frozenset())
    (message,) = settings.warnings
    ours = "service.instance.id, telemetry.sdk.name, telemetry.distro.name"
    assert message.startswith(f"OTEL_RESOURCE_ATTRIBUTES: {ours} ignored")


@pytest.mark.parametrize(
    ("general", "metrics", "url"),
    [
        ("HTTPS://C.example/otlp//", "", "https://C.example/otlp/v1/metrics"),
        ("http://u:p%40@c:1/a?key=v", "", "http://u:p%40@c:1/a/v1/metrics?key=v"),
        ("http://[::1]:4318", "", "http://[::1]:4318/v1/metrics"),
        ("not checked", "http://c:4318", "http://c:4318/"),
        ("", "https://c/in/metrics/?key=v", "https://c/in/metrics/?key=v"),
    ],
)
def test_over_http_the_general_endpoint_is_a_base(general: str, metrics: str, url: str) -> None:
    environ = {f"{OTLP}_ENDPOINT": general, f"{OTLP}_METRICS_ENDPOINT": metrics}
    assert read(environ).otlp.endpoint.reveal() == url


@pytest.mark.parametrize(
    ("text", "insecure", "url"),
    [
        ("", "", "http://localhost:4317"),
        ("http://c:4317/", "false", "http://c:4317"),
        ("c", "", "https://c:443"),
        ("[::1]:4317", "TRUE", "http://[::1]:4317"),
        ("dns:///c:4317", "", "https://c:4317"),
        ("dns:///c:4317", "true", "http://c:4317"),
        ("dns:///c", "", "https://c:443"),
        ("unix:///run/collector.sock", "", "unix:///run/collector.sock"),
        ("unix:///run/collector.sock", "true", "unix:///run/collector.sock"),
    ],
)
def test_over_grpc_an_endpoint_is_tls_unless_insecure(text: str, insecure: str, url: str) -> None:
    for name in (f"{OTLP}_ENDPOINT", f"{OTLP}_METRICS_ENDPOINT"):
        environ = {f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_INSECURE": insecure, name: text}
        assert read(environ).otlp.endpoint.reveal() == url


BAD_ENDPOINTS = [
    "http://", "http:///v1", "http://:4318", "ftp://MARK", "unix://MARK/x", "unix:///MARK?x",
    "unix:///", "unix:MARK", "dns://MARK/h:1", "dns:///", "dns:///http://h:1", "dns:///h:1/MARK",
    "http://h:0",
    "http://h:65536", "http://h:", "http://h:43x", "http://h:-1", "http://[::1", "http://MARK/ x",
    "http://é", "http://h#MARK", "http://u:MARK@", "http://u:MA/RK@h",
    "http://a..b:1", "http://.a:1", "http://u:1/MARK@h", "http://u:1?MARK@h", "http://u:1#MARK@h", "http://u:p@MARK:MARK",
]  # fmt: skip


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("text", [*BAD_ENDPOINTS, "localhost:4318/MARK", "u:MARK@localhost:4318"])
def test_a_malformed_endpoint_is_an_error_that_shows_the_form(protocol: str, text: str) -> None:
    message = error({f"{OTLP}_PROTOCOL": protocol, f"{OTLP}_METRICS_ENDPOINT": text})
    assert message.startswith(f"{OTLP}_METRICS_ENDPOINT: ")
    assert "http://host:port" in message
    assert ("in a password" in message) <= ("@" in text)


@pytest.mark.parametrize(
    ("text", "clause"),
    [("http://h:0", "is not a URL;"), ("http://u:1/MARK@h", "is not a URL (write / ? # @ in a")],
)
def test_an_endpoint_error_explains_passwords_only_where_there_may_be_one(
    text: str, clause: str
) -> None:
    assert error({f"{OTLP}_ENDPOINT": text}).startswith(f"{OTLP}_ENDPOINT: {clause}")


def test_an_endpoint_may_be_a_name_with_a_full_stop_at_its_end() -> None:
    endpoint = read({f"{OTLP}_ENDPOINT": "http://a.b.:4318"}).otlp.endpoint
    assert endpoint.reveal() == "http://a.b.:4318/v1/metrics"


@pytest.mark.parametrize(
    ("name", "text", "clause"),
    [
        ("ENDPOINT", "http://c", "has no port"),
        ("ENDPOINT", "http://u:MARK@c:4317", "has a user name"),
        (
            "HEADERS",
            "a=%C3%A9MARK",
            "has a value that is not ASCII, or a name that gRPC can't send",
        ),
        ("HEADERS", "a!=MARK", "has a value that is not ASCII, or a name that gRPC can't send"),
        ("HEADERS", "Trace-Bin=MARK", "has a name that ends in -bin, which gRPC keeps for binary"),
    ],
)
def test_what_grpc_does_not_have_is_an_error(name: str, text: str, clause: str) -> None:
    assert clause in error({f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_{name}": text})


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("one", "two"):
        pair = authority.issue_cert(f"{name}.example")
        pair.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        pair.private_key_pem.write_to_path(folder / f"{name}.key")
        pair.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}-both.pem")
    key = serialization.load_pem_private_key((folder / "one.key").read_bytes(), password=None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    encrypted = key.private_bytes(*form, serialization.BestAvailableEncryption(b"password"))
    (folder / "encrypted.key").write_bytes(encrypted)
    (folder / "prose.pem").write_text("no certificate, MARK\n")
    (folder / "folder").mkdir()
    return folder


def test_certificates_and_keys_are_files(pem: Path) -> None:
    names = {"CERTIFICATE": "ca.pem", "CLIENT_CERTIFICATE": "one.pem", "CLIENT_KEY": "one.key"}
    otlp = read({f"{OTLP}_{name}": file for name, file in names.items()}, pem).otlp
    files = (otlp.ca_file, otlp.client_certificate, otlp.client_key)
    assert files == (pem / "ca.pem", pem / "one.pem", pem / "one.key")
    otlp = read({f"{OTLP}_METRICS_CLIENT_CERTIFICATE": str(pem / "one-both.pem")}).otlp
    assert (otlp.client_certificate, otlp.client_key) == (pem / "one-both.pem", None)


@pytest.mark.parametrize(
    ("certificate", "key", "clause"),
    [
        ("folder", "", "CERTIFICATE: 'folder' can't be read (Is a directory); expected the path"),
        ("prose.pem", "", "CERTIFICATE: 'prose.pem' contains no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----MARK", "", "CERTIFICATE: is not a path"),
        ("one.pem", "", "CERTIFICATE: 'one.pem' contains no PEM unencrypted key"),
        ("one.pem", "two.key", "KEY: 'two.key' contains no PEM unencrypted key of the certificate"),
        ("one.pem", "encrypted.key", "KEY: 'encrypted.key' contains no PEM unencrypted key"),
        ("one.pem", "missing.key", "KEY: 'missing.key' can't be read (No such file or directory)"),
        ("", "one.key", f"KEY: 'one.key' is set without {OTLP}_CLIENT_CERTIFICATE"),
    ],
)
def test_a_client_certificate_without_its_key_is_an_error(
    pem: Path, certificate: str, key: str, clause: str
) -> None:
    environ = {f"{OTLP}_CLIENT_CERTIFICATE": certificate, f"{OTLP}_CLIENT_KEY": key}
    assert error(environ, pem).startswith(f"{OTLP}_CLIENT_{clause}")


@pytest.mark.parametrize("name", ["folder", "missing.pem"])
def test_certificate_authorities_that_can_not_be_read_are_an_error(pem: Path, name: str) -> None:
    message = error({f"{OTLP}_CERTIFICATE": name}, pem)
    assert message.startswith(f"{OTLP}_CERTIFICATE: '{name}' can't be read (")


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        (None, "can't be read (No such file or directory)"),
        (b"http://u:MARK@h", "is not a MongoDB URL"),
        (b"\xffMARK", "is not valid"),
    ],
)
def test_a_bad_file_of_the_url_is_an_error(
    tmp_path: Path, content: bytes | None, clause: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    assert error({"MONGO_URL_FILE": "url"}, tmp_path).startswith(f"MONGO_URL_FILE: 'url' {clause}")


def test_url_and_file_are_an_error_in_one_source_only(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("\ufeffmongodb://secret\r\n")
    both = {"MONGO_URL": "mongodb://u:MARK@h", "MONGO_URL_FILE": "url"}
    assert "is set together with MONGO_URL_FILE" in error(both, tmp_path)
    (tmp_path / ".env").write_text("MONGO_URL=mongodb://filed\n")
    assert mongo_url(read({"MONGO_URL_FILE": "url"}, tmp_path)) == "mongodb://secret"
    (tmp_path / ".env").write_text("MONGO_URL_FILE=url\n")
    assert mongo_url(read({"MONGO_URL_FILE": ""}, tmp_path)) == "mongodb://secret"
    real = {"MONGO_URL": "mongodb://real", "MONGO_URL_FILE": ""}
    assert mongo_url(read(real, tmp_path)) == "mongodb://real"


def test_the_environment_wins_over_the_env_file_name_by_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NOVU_TELEMETRY=off\nOTEL_SERVICE_NAME=filed\n")
    (tmp_path / "other").write_text("OTEL_LOG_LEVEL=debug\n")
    settings = read({"OTEL_SERVICE_NAME": "real", "NOVU_TELEMETRY": " "}, tmp_path)
    assert (settings.telemetry, settings.service_name) == (False, "real")
    other = load({}, env_file=Path("other"), cwd=tmp_path, home=tmp_path)
    assert (other.telemetry, other.log_level) == (None, logging.DEBUG)


@pytest.mark.parametrize("name", ["MONGO_URL", f"{OTLP}_ENDPOINT"])
def test_a_name_in_the_env_file_that_is_not_set_is_told_with_its_line(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / ".env"
    unset = "uses a $NAME that is not set (write a literal $ as $$)"
    path.write_text(f"A=1\nB=x$MARK\n{name}=$MARK\n")
    settings = read({}, tmp_path)
    assert settings.warnings == (f"{path} line 2 {unset}", f"{path} line 3 {unset}")
    assert (settings.mongo_url, settings.to_fix) == (None, frozenset())
    path.write_text(f"{name}=$MARK://MARK\n")
    assert error({}, tmp_path).endswith(f"; {path} line 1 {unset}")


def test_what_a_command_does_not_need_is_not_read(tmp_path: Path) -> None:
    both = {"MONGO_URL": "no URL", "MONGO_URL_FILE": "/nonexistent"}
    (tmp_path / ".env").write_text("MONGO_URL=no URL\n")
    settings = load(both | {"NOVU_TELEMETRY": "off"}, cwd=tmp_path, without=both)
    assert (settings.mongo_url, settings.telemetry) == (None, False)


def test_an_env_file_that_is_a_directory_is_ignored_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert read({}, tmp_path).warnings == (f"{tmp_path}/.env is not a file and is ignored",)


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        (None, "can't be read (No such file or directory)"),
        (b"A=1\nMARK MARK\n", "line 2 is not NAME=value with matching quotes"),
    ],
)
def test_a_bad_env_file_is_an_error(tmp_path: Path, content: bytes | None, clause: str) -> None:
    if content is None:
        (tmp_path / ".env").symlink_to(tmp_path / "gone")
    else:
        (tmp_path / ".env").write_bytes(content)
    assert error({}, tmp_path).startswith(f"{tmp_path}/.env: {clause}; expected ")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NOVU_TELEMETY", "NOVU_TELEMETRY"),
        ("NOVU_TELEMETRI", "NOVU_TELEMETRY"),
        ("novu_telemetry", "NOVU_TELEMETRY"),
        ("OTEL_METRICS_EXPORT_INTERVAL", INTERVAL),
        (f"{OTLP}_ENDPOIN", f"{OTLP}_ENDPOINT"),
        ("OTEL_NOVU_QUERY_TIMOUT", "OTEL_NOVU_QUERY_TIMEOUT"),
        ("OTEL_NOVU_XYZ", None),
    ],
)
def test_an_unknown_name_is_a_warning(name: str, meant: str | None) -> None:
    hint = f"; did you mean {meant}?" if meant else ""
    warning = f"{name} is not a variable of otel-novu and is ignored{hint}"
    assert read({name: "MARK"}).warnings == (warning,)


@pytest.mark.parametrize("name", ["OTEL_CONFIG_FILE", "OTEL_METRIC_EXPORT_TIMEOUT"])
def test_a_name_that_promises_an_effect_here_is_a_warning(name: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{name}=MARK\n")
    for settings in (read({name: "MARK"}), read({}, tmp_path)):
        assert [each.partition(":")[0] for each in settings.warnings] == [f"{name} has no effect"]
        assert settings.to_fix == frozenset()


def test_a_name_of_others_is_no_warning() -> None:
    names = (
        "OTEL_TRACES_EXPORTER",
        "OTEL_EXPORTER_PROMETHEUS_PORT",
        "OTEL_NOVU_CACHE",
        "MONGO_USER",
    )
    otlp = [f"{OTLP}_{end}" for end in ("LOGS_ENDPOINT", "TRACES_ENDPOINT", "TRACES_HEADERS")]
    ends = ("", "_4318_TCP", "_4318_TCP_ADDR", "_4318_TCP_PORT", "_4318_TCP_PROTO", "_53_UDP")
    ports = [f"PORT{end}" for end in ends]
    links = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_OTLP_HTTP", *ports]
    services = ("OTEL_NOVU", "OTEL_NOVU_EXPORTER", "OTEL_COLLECTOR", "NOVU_TELEMETRY")
    kubernetes = [f"{service}_{link}" for service in services for link in links]
    assert read(dict.fromkeys([*names, *otlp, *kubernetes], "x")).warnings == ()


SECRET = "Zq7MARKx9"  # of letters that no sentence of ours has
SECRETS = [name for row in VARIABLES if row.secret for name in row.names]


@given(
    name=st.sampled_from(SECRETS),
    protocol=st.sampled_from(["", "grpc"]),
    before=st.sampled_from(["", "http://u:", "https://h/?k=", "mongodb://u:", "a=", "http://u:%"]),
    between=st.text(st.sampled_from("/@%=,;:?#[]$. \n\0\udcffé1h"), max_size=4),
    after=st.text(st.sampled_from("/@%=,;:?#[]. \n1h"), max_size=8),
)
def test_no_error_no_warning_and_no_repr_shows_a_secret(
    name: str, protocol: str, before: str, between: str, after: str
) -> None:
    value = f"{before}{between}{SECRET}{after}"
    try:
        settings = read({f"{OTLP}_PROTOCOL": protocol, name: value})
    except SettingsError as raised:
        assert SECRET not in str(raised)  # noqa: PT017 - both outcomes are valid
    else:
        assert SECRET not in f"{settings} {settings!r} {settings.mongo_url} {settings.otlp.headers}"


def test_loading_needs_the_standard_library_only() -> None:
    script = (
        "import sys, otel_novu.settings\n"
        "print(*{'opentelemetry', 'pymongo', 'psutil', 'grpc', 'ssl'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout.strip() == b""
