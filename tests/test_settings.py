import dataclasses
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.documents import as_markdown
from otel_novu.environment import table
from otel_novu.settings import (
    VARIABLES,
    Compression,
    Exporter,
    Protocol,
    Settings,
    SettingsError,
    load,
)

NOWHERE = Path("/nonexistent/otel-novu")
ALL_NAMES = [name for variable in VARIABLES for name in variable.names]
OTLP = "OTEL_EXPORTER_OTLP"


def read(**environ: str) -> Settings:
    """Read an environment with no file beside it."""
    return load(environ, env_file=None, cwd=NOWHERE, home=Path("/home/u"))


def refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as error:
        read(**environ)
    return str(error.value)


# What stands when nothing is set


def test_an_empty_environment_is_a_good_one() -> None:
    settings = read()
    assert settings.telemetry is None
    assert settings.mongo_url is None
    assert settings.state_dir == Path("/home/u/.local/state/otel-novu")
    assert settings.instance_id is None
    assert settings.query_timeout == 5
    assert settings.interval == 3600
    assert settings.exporters == (Exporter.OTLP,)
    assert not settings.sdk_disabled
    assert settings.service_name == "novu"
    assert settings.resource_attributes == {}
    assert settings.log_level == logging.INFO
    assert not settings.anonymize
    assert settings.spool_max_age == 7 * 86400
    assert settings.spool_max_bytes == 64 * 2**20
    assert settings.warnings == ()


def test_an_empty_environment_means_a_collector_on_this_machine() -> None:
    otlp = read().otlp
    assert otlp.protocol is Protocol.HTTP
    assert otlp.endpoint.reveal() == "http://localhost:4318/v1/metrics"
    assert otlp.headers == {}
    assert otlp.timeout == 10
    assert otlp.compression is Compression.NONE
    assert (otlp.ca, otlp.client_certificate, otlp.client_key) == (None, None, None)


def test_every_empty_variable_is_an_unset_one() -> None:
    assert read(**dict.fromkeys(ALL_NAMES, "")) == read()


def test_the_record_has_the_defaults_of_the_table() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert fields["anonymize"] is table.ANONYMIZE.reader.read(table.ANONYMIZE.default)
    assert fields["spool_max_age"] == table.SPOOL_MAX_AGE.reader.read(table.SPOOL_MAX_AGE.default)
    assert fields["spool_max_bytes"] == table.SPOOL_MAX_BYTES.reader.read(
        table.SPOOL_MAX_BYTES.default
    )


# Words

TRUE = ["true", "TRUE", "True", "1", "yes", "YES", "on", "On", " true ", "\ton\n"]
FALSE = ["false", "FALSE", "False", "0", "no", "NO", "off", "Off", " false ", "\toff\n"]
NO_WORD = ["maybe", "2", "y", "n", "t", "enabled", "wahr", " ", "tru e", "none", "\u0661"]


@pytest.mark.parametrize("word", TRUE)
def test_a_word_for_yes_sets_a_flag(word: str) -> None:
    settings = read(NOVU_TELEMETRY=word, OTEL_NOVU_ANONYMIZE=word)
    assert settings.telemetry is True
    assert settings.anonymize is True


@pytest.mark.parametrize("word", FALSE)
def test_a_word_for_no_clears_a_flag(word: str) -> None:
    settings = read(NOVU_TELEMETRY=word, OTEL_NOVU_ANONYMIZE=word)
    assert settings.telemetry is False
    assert settings.anonymize is False


@pytest.mark.parametrize("name", ["NOVU_TELEMETRY", "OTEL_NOVU_ANONYMIZE"])
@pytest.mark.parametrize("word", NO_WORD)
def test_another_word_for_a_flag_is_refused_with_the_words(name: str, word: str) -> None:
    message = refusal(**{name: word})
    assert message.startswith(f"{name} ")
    for accepted in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        assert accepted in message.partition("; accepted: ")[2]


@pytest.mark.parametrize(("word", "disabled"), [("true", True), ("TRUE", True), (" True ", True)])
def test_the_sdk_is_disabled_by_true(word: str, disabled: bool) -> None:  # noqa: FBT001 - a table
    assert read(OTEL_SDK_DISABLED=word).sdk_disabled is disabled


@pytest.mark.parametrize("word", ["1", "yes", "false", "on", "x", " "])
def test_the_sdk_is_disabled_by_nothing_but_true(word: str) -> None:
    assert read(OTEL_SDK_DISABLED=word).sdk_disabled is False


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("debug", logging.DEBUG),
        ("INFO", logging.INFO),
        ("warn", logging.WARNING),
        ("Warning", logging.WARNING),
        (" error ", logging.ERROR),
        ("critical", logging.CRITICAL),
        ("fatal", logging.CRITICAL),
    ],
)
def test_a_log_level_is_a_word_in_any_case(word: str, level: int) -> None:
    assert read(OTEL_LOG_LEVEL=word).log_level == level


@pytest.mark.parametrize(
    ("text", "exporters"),
    [
        ("otlp", (Exporter.OTLP,)),
        ("console", (Exporter.CONSOLE,)),
        ("OTLP, Console", (Exporter.OTLP, Exporter.CONSOLE)),
        ("console,otlp", (Exporter.CONSOLE, Exporter.OTLP)),
        ("otlp,otlp,console,otlp", (Exporter.OTLP, Exporter.CONSOLE)),
        ("none", ()),
        (" None ", ()),
    ],
)
def test_exporters_are_a_list(text: str, exporters: tuple[Exporter, ...]) -> None:
    assert read(OTEL_METRICS_EXPORTER=text).exporters == exporters


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_METRICS_EXPORTER", "otlp,none"),
        ("OTEL_METRICS_EXPORTER", "none,none"),
        ("OTEL_METRICS_EXPORTER", "otlp,"),
        ("OTEL_METRICS_EXPORTER", ","),
        ("OTEL_METRICS_EXPORTER", "otlp console"),
        ("OTEL_LOG_LEVEL", "loud"),
        ("OTEL_LOG_LEVEL", "20"),
        (f"{OTLP}_PROTOCOL", "http/json"),
        (f"{OTLP}_PROTOCOL", "http"),
        (f"{OTLP}_COMPRESSION", "zstd"),
        (f"{OTLP}_COMPRESSION", "true"),
        (f"{OTLP}_INSECURE", "yes"),
        (f"{OTLP}_INSECURE", "1"),
        (f"{OTLP}_METRICS_TEMPORALITY_PREFERENCE", "DELTA"),
        (f"{OTLP}_METRICS_TEMPORALITY_PREFERENCE", "monthly"),
        ("OTEL_SERVICE_NAME", "  "),
        ("OTEL_SERVICE_NAME", "a\nb"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_choices(name: str, text: str) -> None:
    message = refusal(**{name: text})
    assert message.startswith(f"{name} ")
    row = next(row for row in VARIABLES if row.name == name)
    assert message.endswith(f"; accepted: {row.reader.accepted}")


def test_delta_is_refused_with_a_pointer_to_the_collector() -> None:
    name = f"{OTLP}_METRICS_TEMPORALITY_PREFERENCE"
    assert "the collector's cumulativetodelta processor" in refusal(**{name: "delta"})


@pytest.mark.parametrize("word", ["cumulative", "LowMemory", " CUMULATIVE "])
def test_every_other_temporality_is_cumulative(word: str) -> None:
    assert read(**{f"{OTLP}_METRICS_TEMPORALITY_PREFERENCE": word}) == read()


# Numbers

BAD_NUMBERS = [
    "0", "-1", "0.0", "-0", "nan", "inf", "-inf", "Infinity", "1e999", "1h", "10s", "1_000",
    "1,5", "0x10", "\u0661\u0660", "one", " ", "1 2", "--1", "1e", ".", "9" * 400,
]  # fmt: skip


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize(
    "name",
    [
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_NOVU_QUERY_TIMEOUT",
        f"{OTLP}_TIMEOUT",
        f"{OTLP}_METRICS_TIMEOUT",
    ],
)
def test_what_is_no_positive_finite_number_is_refused(name: str, number: str) -> None:
    message = refusal(**{name: number})
    assert message.startswith(f"{name} is ")
    assert "seconds, from" in message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1000", 1), ("1", 0.001), (" 1500.5 ", 1.5005), ("3.6e6", 3600), ("604800000", 604800)],
)
def test_the_interval_is_given_in_milliseconds(text: str, seconds: float) -> None:
    assert read(OTEL_METRIC_EXPORT_INTERVAL=text).interval == seconds


@pytest.mark.parametrize("text", ["604800001", "1e30", "0.5"])
def test_an_absurd_interval_is_refused(text: str) -> None:
    assert "(7 days)" in refusal(OTEL_METRIC_EXPORT_INTERVAL=text)


@pytest.mark.parametrize(("text", "seconds"), [("2.5", 2.5), ("599.9", 599.9), ("0.001", 0.001)])
def test_time_outs_are_given_in_seconds(text: str, seconds: float) -> None:
    settings = read(**{"OTEL_NOVU_QUERY_TIMEOUT": text, f"{OTLP}_TIMEOUT": text})
    assert settings.query_timeout == seconds
    assert settings.otlp.timeout == seconds


@pytest.mark.parametrize("text", ["600", "10000"])
def test_a_delivery_time_out_of_600_and_more_is_told_to_be_seconds(text: str) -> None:
    assert "counts seconds, not milliseconds" in refusal(**{f"{OTLP}_TIMEOUT": text})
    assert refusal(OTEL_NOVU_QUERY_TIMEOUT=text).startswith("OTEL_NOVU_QUERY_TIMEOUT is too large")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7d", 604800), ("12h", 43200), ("30m", 1800), ("90s", 90), ("90", 90), ("1.5h", 5400),
        (" 2 D ", 172800), ("366d", 366 * 86400), ("1", 1),
    ],
)  # fmt: skip
def test_the_age_of_the_spool_has_a_unit(text: str, seconds: float) -> None:
    assert read(OTEL_NOVU_SPOOL_MAX_AGE=text).spool_max_age == seconds


@pytest.mark.parametrize(
    "text", ["0", "0d", "-1d", "1w", "d", "nan", "inf", "1d12h", "367d", "0.5", "1_0", "1e3", " "]
)
def test_another_age_of_the_spool_is_refused(text: str) -> None:
    message = refusal(OTEL_NOVU_SPOOL_MAX_AGE=text)
    assert message.startswith("OTEL_NOVU_SPOOL_MAX_AGE is ")
    assert "7d, 12h, 30m, 90s, 90" in message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 2**26), ("1gib", 2**30), ("128 KiB", 2**17), ("65536", 2**16),
        ("70000B", 70000), (" 1 GiB ", 2**30), ("1024GiB", 2**40),
    ],
)  # fmt: skip
def test_the_size_of_the_spool_has_a_unit(text: str, size: int) -> None:
    assert read(OTEL_NOVU_SPOOL_MAX_BYTES=text).spool_max_bytes == size


@pytest.mark.parametrize(
    "text", ["0", "-1", "64MB", "64M", "1.5GiB", "65535", "1025GiB", "9" * 5000, "MiB", "nan", " "]
)
def test_another_size_of_the_spool_is_refused(text: str) -> None:
    message = refusal(OTEL_NOVU_SPOOL_MAX_BYTES=text)
    assert message.startswith("OTEL_NOVU_SPOOL_MAX_BYTES is ")
    assert "KiB, MiB or GiB" in message


# Identity and state


def test_an_instance_id_is_a_uuid_in_any_case() -> None:
    text = "BA54FB29-6422-4A83-A0E4-951D767EFA73"
    assert read(OTEL_NOVU_INSTANCE_ID=text).instance_id == UUID(text)
    assert str(read(OTEL_NOVU_INSTANCE_ID=f" {text} ").instance_id) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "host-192.168.1.4",
        "ba54fb2964224a83a0e4951d767efa73",
        "{ba54fb29-6422-4a83-a0e4-951d767efa73}",
        "urn:uuid:ba54fb29-6422-4a83-a0e4-951d767efa73",
        "ba54fb29-6422-4a83-a0e4-951d767efa7",
        "ba54fb29-6422-4a83-a0e4-951d767efa7g",
        "00000000-0000-0000-0000-000000000000",
        " ",
    ],
)
def test_another_instance_id_is_refused(text: str) -> None:
    message = refusal(OTEL_NOVU_INSTANCE_ID=text)
    assert message.startswith("OTEL_NOVU_INSTANCE_ID is ")
    assert "a UUID such as" in message


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OTEL_NOVU_STATE_DIR": "/var/lib/x"}, "/var/lib/x"),
        ({"OTEL_NOVU_STATE_DIR": "state dir"}, f"{NOWHERE}/state dir"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/otel-novu"),
        ({"XDG_STATE_HOME": "relative"}, "/home/u/.local/state/otel-novu"),
        ({"XDG_STATE_HOME": ""}, "/home/u/.local/state/otel-novu"),
        ({"XDG_STATE_HOME": "/xdg", "OTEL_NOVU_STATE_DIR": "/var/lib/x"}, "/var/lib/x"),
    ],
)
def test_the_state_directory_is_found(environ: dict[str, str], expected: str) -> None:
    assert read(**environ).state_dir == Path(expected)


@pytest.mark.parametrize("text", ["~/state", "~", " ", "a\nb"])
def test_a_state_directory_that_only_a_shell_would_find_is_refused(text: str) -> None:
    assert refusal(OTEL_NOVU_STATE_DIR=text).startswith("OTEL_NOVU_STATE_DIR ")


# Resource


def test_the_service_name_beats_that_of_the_attributes() -> None:
    attributes = "service.name=a%20b,service.namespace=x"
    assert read(OTEL_RESOURCE_ATTRIBUTES=attributes).service_name == "a b"
    settings = read(OTEL_RESOURCE_ATTRIBUTES=attributes, OTEL_SERVICE_NAME="mine")
    assert settings.service_name == "mine"
    assert settings.resource_attributes == {"service.namespace": "x"}


def test_an_empty_service_name_among_the_attributes_is_an_unset_one() -> None:
    assert read(OTEL_RESOURCE_ATTRIBUTES="service.name=").service_name == "novu"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": "1"}),
        (" a = 1 , b=2", {"a": "1", "b": "2"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=1,,b=2,", {"a": "1", "b": "2"}),
        (",", {}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=x%2Cy%3Dz%25", {"a": "x,y=z%"}),
        ("a%2Eb=%C3%A9", {"a.b": "é"}),
        ("a=%20b%20", {"a": " b "}),
        ("a=é;\"\\'", {"a": "é;\"\\'"}),
    ],
)
def test_resource_attributes_are_a_list(text: str, expected: dict[str, str]) -> None:
    assert read(OTEL_RESOURCE_ATTRIBUTES=text).resource_attributes == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a=1,MARK", "no = in item 2 of 2"),
        ("=MARK", "an empty key in item 1 of 1"),
        ("a=MARK%", "a % in item 1 of 1"),
        ("a=MARK%zz", "a % in item 1 of 1"),
        ("a=MARK%FF", "not UTF-8"),
        ("a=MARK%0A", "a control character in item 1 of 1"),
        ("service.instance.id=MARK", "OTEL_NOVU_INSTANCE_ID"),
        ("telemetry.sdk.name=MARK", "telemetry.sdk."),
        ("telemetry%2Esdk.name=MARK", "telemetry.sdk."),
    ],
)
def test_malformed_resource_attributes_are_refused_by_position(text: str, fault: str) -> None:
    message = refusal(OTEL_RESOURCE_ATTRIBUTES=text)
    assert message.startswith("OTEL_RESOURCE_ATTRIBUTES ")
    assert fault in message
    assert "MARK" not in message


# The collector


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://c:4318", "http://c:4318/v1/metrics"),
        ("http://c:4318/", "http://c:4318/v1/metrics"),
        ("https://c", "https://c/v1/metrics"),
        ("HTTPS://C.example/otlp//", "https://C.example/otlp/v1/metrics"),
        ("http://c/a?key=v", "http://c/a/v1/metrics?key=v"),
        ("http://u:p%40@c:1", "http://u:p%40@c:1/v1/metrics"),
        ("http://u:%C3%A9@c:1", "http://u:%C3%A9@c:1/v1/metrics"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/metrics"),
        ("http://127.0.0.1:65535", "http://127.0.0.1:65535/v1/metrics"),
        ("http://otel_collector.", "http://otel_collector./v1/metrics"),
    ],
)
def test_the_general_endpoint_of_http_is_a_base(text: str, expected: str) -> None:
    assert read(**{f"{OTLP}_ENDPOINT": text}).otlp.endpoint.reveal() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://c:4318", "http://c:4318/"),
        ("http://c:4318/", "http://c:4318/"),
        ("https://c/in/metrics/", "https://c/in/metrics/"),
        ("https://c?key=v", "https://c/?key=v"),
    ],
)
def test_the_metrics_endpoint_of_http_is_used_as_it_is(text: str, expected: str) -> None:
    environ = {f"{OTLP}_METRICS_ENDPOINT": text, f"{OTLP}_ENDPOINT": "http://other"}
    assert read(**environ).otlp.endpoint.reveal() == expected


@pytest.mark.parametrize(
    ("text", "insecure", "expected"),
    [
        ("", "", "http://localhost:4317"),
        ("http://c:4317", "", "http://c:4317"),
        ("http://c:4317/", "false", "http://c:4317"),
        ("https://c:4317", "true", "https://c:4317"),
        ("https://c", "", "https://c:443"),
        ("c:4317", "", "https://c:4317"),
        ("c:4317", "false", "https://c:4317"),
        ("c:4317", "TRUE", "http://c:4317"),
        ("c", "", "https://c:443"),
        ("[::1]:4317", "true", "http://[::1]:4317"),
    ],
)
def test_an_endpoint_of_grpc_is_tls_unless_told_otherwise(
    text: str, insecure: str, expected: str
) -> None:
    for name in (f"{OTLP}_ENDPOINT", f"{OTLP}_METRICS_ENDPOINT"):
        environ = {f"{OTLP}_PROTOCOL": "grpc", name: text, f"{OTLP}_INSECURE": insecure}
        assert read(**environ).otlp.endpoint.reveal() == expected


BAD_ENDPOINTS = [
    "http://", "http:///v1", "http://:4318", "ftp://MARK", "unix:///MARK", "http://h:0",
    "http://h:65536", "http://h:", "http://h:43x", "http://h:-1", "http://h:\u0661", "http://[::1",
    "http://::1:4318", "http://[MARK]:1", "http://[fe80::1%25eth0]", "http://MARK/ x", " http://h",
    "http://h\n", "http://h\t:1", "http://é", "http://999.1.1.1", "http://1.2.3", "http://a..b",
    "http://-MARK", "http://h#MARK", "http://u:MARK@", "http://u:MA/RK@h", "http://u:1/MARK@h",
    "http://u:1?MARK@h", "http://u:1#MARK@h", "http://u:MARK@x@h", "http://u:MARK%@h",
    "http://u:MARK\\@h", "http://u:%C3MARK@h", "http://h/%zzMARK", "http://u:p@MARK:MARK",
    f"http://{'a' * 64}", f"http://{'.'.join(['a' * 60] * 5)}", " ", "MARK",
]  # fmt: skip


@pytest.mark.parametrize("name", [f"{OTLP}_ENDPOINT", f"{OTLP}_METRICS_ENDPOINT"])
@pytest.mark.parametrize("text", BAD_ENDPOINTS)
def test_a_malformed_endpoint_of_http_is_refused(name: str, text: str) -> None:
    message = refusal(**{name: text})
    assert message.startswith(f"{name} ")
    assert "http://localhost:4318" in message
    assert "MARK" not in message


@pytest.mark.parametrize("text", BAD_ENDPOINTS[:-1])
def test_a_malformed_endpoint_of_grpc_is_refused(text: str) -> None:
    message = refusal(**{f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_ENDPOINT": text})
    assert message.startswith(f"{OTLP}_ENDPOINT ")
    assert "MARK" not in message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("http://c", "no port"),
        ("http://c:4318/v1/metrics", "a path"),
        ("http://c:4317?x=MARK", "a path or a query"),
        ("http://u:MARK@c:4317", "a user name"),
    ],
)
def test_what_grpc_has_no_use_for_is_refused(text: str, fault: str) -> None:
    message = refusal(**{f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_ENDPOINT": text})
    assert fault in message
    assert "MARK" not in message


@pytest.mark.parametrize("text", ["localhost:4318", "u:MARK@localhost:4318", "collector/v1"])
def test_an_endpoint_of_http_without_a_scheme_is_shown_the_form(text: str) -> None:
    message = refusal(**{f"{OTLP}_ENDPOINT": text})
    assert "does not begin with http:// or https://; accepted: http://host:port" in message
    assert "MARK" not in message


def test_a_doubled_metrics_path_is_warned_about() -> None:
    settings = read(**{f"{OTLP}_ENDPOINT": "http://u:MARK@c/v1/metrics/"})
    assert settings.otlp.endpoint.reveal() == "http://u:MARK@c/v1/metrics/v1/metrics"
    (warning,) = settings.warnings
    assert "appended once more" in warning
    assert "MARK" not in warning
    assert read(**{f"{OTLP}_METRICS_ENDPOINT": "http://c/v1/metrics"}).warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Api-Key=v", {"api-key": "v"}),
        ("a=1, b = 2 ,", {"a": "1", "b": "2"}),
        ("a=1,A=2", {"a": "2"}),
        ("authorization=Basic dTpw==", {"authorization": "Basic dTpw=="}),
        ("authorization=Bearer%20t%2Cx", {"authorization": "Bearer t,x"}),
        ("a=%C3%A9", {"a": "é"}),
        ("a=", {"a": ""}),
    ],
)
def test_headers_are_a_list(text: str, expected: dict[str, str]) -> None:
    headers = read(**{f"{OTLP}_HEADERS": text}).otlp.headers
    assert {name: value.reveal() for name, value in headers.items()} == expected


BAD_HEADERS = [
    ("MARK", "no = in item 1 of 1"),
    ("Authorization: Bearer MARK", "no = in item 1 of 1"),
    ("a=1,MARK,c=3", "no = in item 2 of 3"),
    ("=MARK", "a key in item 1 of 1"),
    ("a b=MARK", "a key in item 1 of 1"),
    ("MARK:=x", "a key in item 1 of 1"),
    ('"a=MARK"', "a key in item 1 of 1"),
    ("é=MARK", "a key in item 1 of 1"),
    ("a=MARK;x", "a character in item 1 of 1 that must be percent-encoded"),
    ('a="MARK"', "a character in item 1 of 1 that must be percent-encoded"),
    ("a=MARKé", "a character in item 1 of 1 that must be percent-encoded"),
    ("a=x\nb: MARK", "a character in item 1 of 1 that must be percent-encoded"),
    ("a=MARK%0D%0Ab", "that no header can carry"),
    ("a=MARK%0A", "that no header can carry"),
    ("a=MARK%7Fb", "that no header can carry"),
    ("a=MARK%E2%82%AC", "that no header can carry"),
    ("a=MARK%FF", "not UTF-8"),
    ("a=MARK%", "a % in item 1 of 1"),
    ("a=1,b=MARK%2", "a % in item 2 of 2"),
    ("Content-Type=MARK", "content-type in item 1 of 1"),
]


@pytest.mark.parametrize("name", [f"{OTLP}_HEADERS", f"{OTLP}_METRICS_HEADERS"])
@pytest.mark.parametrize(("text", "fault"), BAD_HEADERS)
def test_malformed_headers_are_refused_by_position(name: str, text: str, fault: str) -> None:
    message = refusal(**{name: text})
    assert message.startswith(f"{name} ")
    assert fault in message
    assert "MARK" not in message


@pytest.mark.parametrize("text", ["a=1,b=%C3%A9MARK", "grpc-x=MARK", "x-bin=MARK", "a|b=MARK"])
def test_headers_that_grpc_cannot_carry_are_refused(text: str) -> None:
    message = refusal(**{f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_HEADERS": text})
    assert "gRPC can't carry" in message
    assert "MARK" not in message
    assert read(**{f"{OTLP}_HEADERS": text}).otlp.headers


def test_compression_is_a_word() -> None:
    for word in ("none", "GZIP", "deflate"):
        found = read(**{f"{OTLP}_COMPRESSION": word}).otlp.compression
        assert found is Compression(word.lower())


def test_grpc_knows_no_deflate() -> None:
    environ = {f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_METRICS_COMPRESSION": "deflate"}
    message = refusal(**environ)
    assert message.startswith(f"{OTLP}_METRICS_COMPRESSION is deflate, which gRPC does not know")
    for word in ("none", "gzip"):
        found = read(**{f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_COMPRESSION": word})
        assert found.otlp.compression is Compression(word)


@pytest.mark.parametrize(
    ("suffix", "general", "special", "pick"),
    [
        ("PROTOCOL", "grpc", "http/protobuf", lambda s: s.otlp.protocol.value),
        ("TIMEOUT", "1.0", "2.0", lambda s: str(s.otlp.timeout)),
        ("COMPRESSION", "gzip", "deflate", lambda s: s.otlp.compression.value),
        ("HEADERS", "a=1", "b=1", lambda s: "".join(f"{name}=1" for name in s.otlp.headers)),
    ],
)
def test_the_variant_for_metrics_wins(
    suffix: str, general: str, special: str, pick: Callable[[Settings], str]
) -> None:
    names = f"{OTLP}_{suffix}", f"{OTLP}_METRICS_{suffix}"
    assert pick(read(**dict(zip(names, (general, special), strict=True)))) == special
    assert pick(read(**dict(zip(names, (general, ""), strict=True)))) == general


def test_the_metrics_endpoint_wins() -> None:
    environ = {f"{OTLP}_ENDPOINT": "not judged", f"{OTLP}_METRICS_ENDPOINT": "http://c/"}
    assert read(**environ).otlp.endpoint.reveal() == "http://c/"
    environ = {f"{OTLP}_ENDPOINT": "http://c", f"{OTLP}_METRICS_ENDPOINT": ""}
    assert read(**environ).otlp.endpoint.reveal() == "http://c/v1/metrics"


def test_the_variant_for_metrics_wins_for_insecure_too() -> None:
    environ = {f"{OTLP}_PROTOCOL": "grpc", f"{OTLP}_ENDPOINT": "c:1", f"{OTLP}_INSECURE": "true"}
    assert read(**environ).otlp.endpoint.reveal() == "http://c:1"
    environ[f"{OTLP}_METRICS_INSECURE"] = "false"
    assert read(**environ).otlp.endpoint.reveal() == "https://c:1"


# Certificates


def revocations() -> x509.CertificateRevocationList:
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder()
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")]))
    builder = builder.last_update(now).next_update(now + timedelta(days=1))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


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
    key = load_pem_private_key((folder / "one.key").read_bytes(), password=None)
    secret = BestAvailableEncryption(b"password")
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    (folder / "encrypted.key").write_bytes(encrypted)
    (folder / "both-encrypted.pem").write_bytes((folder / "one.pem").read_bytes() + encrypted)
    (folder / "commented.pem").write_bytes("# Ünder\n".encode() + (folder / "ca.pem").read_bytes())
    (folder / "empty.pem").write_text("")
    (folder / "prose.pem").write_text("no certificate, MARK\n")
    (folder / "torn.pem").write_text("-----BEGIN CERTIFICATE-----\nMARK\n-----END CERTIFICATE-----")
    (folder / "revoked.pem").write_bytes(revocations().public_bytes(Encoding.PEM))
    (folder / "huge.pem").write_bytes(b"\n" * (2**20 + 1))
    (folder / "folder.pem").mkdir()
    return folder


def read_in(folder: Path, environ: Mapping[str, str]) -> Settings:
    return load(environ, env_file=None, cwd=folder, home=folder)


def refusal_in(folder: Path, environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as error:
        read_in(folder, environ)
    assert "MARK" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["ca.pem", "commented.pem", "one-both.pem"])
def test_a_relative_certificate_begins_in_the_working_directory(pem: Path, name: str) -> None:
    assert read_in(pem, {f"{OTLP}_CERTIFICATE": name}).otlp.ca == pem / name
    assert read_in(pem, {f"{OTLP}_METRICS_CERTIFICATE": str(pem / name)}).otlp.ca == pem / name


def test_a_client_certificate_comes_with_its_key(pem: Path) -> None:
    environ = {f"{OTLP}_CLIENT_CERTIFICATE": "one.pem", f"{OTLP}_CLIENT_KEY": "one.key"}
    otlp = read_in(pem, environ).otlp
    assert (otlp.client_certificate, otlp.client_key) == (pem / "one.pem", pem / "one.key")


def test_a_client_certificate_may_hold_its_key(pem: Path) -> None:
    otlp = read_in(pem, {f"{OTLP}_METRICS_CLIENT_CERTIFICATE": "one-both.pem"}).otlp
    assert (otlp.client_certificate, otlp.client_key) == (pem / "one-both.pem", None)


@pytest.mark.parametrize("suffix", ["CERTIFICATE", "METRICS_CERTIFICATE", "CLIENT_CERTIFICATE"])
@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("missing.pem", "names the file missing.pem, which does not exist"),
        ("folder.pem", "which can't be read (Is a directory)"),
        ("ca.pem/x", "which can't be read (Not a directory)"),
        ("empty.pem", "holds no certificate"),
        ("prose.pem", "holds no certificate"),
        ("torn.pem", "holds no certificate"),
        ("one.key", "holds no certificate"),
        ("revoked.pem", "holds no certificate"),
        ("huge.pem", "larger than 1 MiB"),
        ("-----BEGIN CERTIFICATE-----MARK", "holds the content itself"),
        ("a\nMARK", "is no path"),
        ("u:MARK@x", "names a file, which does not exist"),
    ],
)
def test_a_bad_certificate_is_refused(pem: Path, suffix: str, file: str, fault: str) -> None:
    message = refusal_in(pem, {f"{OTLP}_{suffix}": file})
    assert message.startswith(f"{OTLP}_{suffix} ")
    assert fault in message


@pytest.mark.parametrize(
    ("certificate", "key", "setter", "fault"),
    [
        ("", "one.key", "KEY", "is set, but OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is not"),
        ("one.pem", "missing.key", "KEY", "which does not exist"),
        ("one.pem", "prose.pem", "KEY", "holds no PEM key"),
        ("one.pem", "two.key", "KEY", "does not fit the certificate"),
        ("one.pem", "encrypted.key", "KEY", "key is encrypted"),
        ("one.pem", "", "CERTIFICATE", "holds no PEM key"),
        ("both-encrypted.pem", "", "CERTIFICATE", "key is encrypted"),
        ("one.pem", "-----BEGIN PRIVATE KEY-----MARK", "KEY", "holds the content itself"),
    ],
)
def test_a_bad_client_key_is_refused(
    pem: Path, certificate: str, key: str, setter: str, fault: str
) -> None:
    environ = {f"{OTLP}_CLIENT_CERTIFICATE": certificate, f"{OTLP}_CLIENT_KEY": key}
    message = refusal_in(pem, environ)
    assert message.startswith(f"{OTLP}_CLIENT_{setter} ")
    assert fault in message


# The file, and who wins


def test_the_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NOVU_TELEMETRY=false\nOTEL_SERVICE_NAME=filed\n")
    settings = read_in(tmp_path, {"OTEL_SERVICE_NAME": "real"})
    assert settings.telemetry is False
    assert settings.service_name == "real"


def test_a_named_file_replaces_that_of_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NOVU_TELEMETRY=false\n")
    (tmp_path / "other").write_text("OTEL_SERVICE_NAME=other\n")
    settings = load({}, env_file=Path("other"), cwd=tmp_path, home=tmp_path)
    assert settings.telemetry is None
    assert settings.service_name == "other"


def test_an_empty_real_variable_lets_that_of_the_file_through(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NOVU_TELEMETRY=off\nOTEL_LOG_LEVEL=\n")
    settings = read_in(tmp_path, {"NOVU_TELEMETRY": ""})
    assert settings.telemetry is False
    assert settings.log_level == logging.INFO


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load({}, env_file=tmp_path / "missing", cwd=tmp_path, home=tmp_path)


def test_a_folder_named_as_the_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert read_in(tmp_path, {}).telemetry is None


def test_a_file_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(tmp_path / "gone")
    assert "can't be read" in refusal_in(tmp_path, {})


def test_a_file_that_cannot_be_looked_at_is_refused() -> None:
    too_long = Path("/" + "a/" * 3000)
    with pytest.raises(SettingsError, match=r"can't be read \(File name too long\)"):
        load({}, env_file=None, cwd=too_long, home=NOWHERE)


def test_no_file_is_sought_below_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert load({}, env_file=None, cwd=tmp_path / "file", home=NOWHERE).telemetry is None


def test_a_bad_value_of_the_file_is_refused_as_any_other(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NOVU_TELEMETRY=MARK\n")
    assert refusal_in(tmp_path, {}).startswith("NOVU_TELEMETRY ")


def test_reading_changes_no_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTEL_SERVICE_NAME=filed\n")
    script = (
        "import os, pathlib\nfrom otel_novu.settings import load\nbefore = dict(os.environ)\n"
        "here = pathlib.Path.cwd()\n"
        "assert load(os.environ, env_file=None, cwd=here, home=here).service_name == 'filed'\n"
        "assert dict(os.environ) == before\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={}, check=True)


def test_settings_need_nothing_beyond_the_standard_library(tmp_path: Path) -> None:
    script = (
        "import sys, otel_novu.settings\n"
        "heavy = {'opentelemetry', 'pymongo', 'requests', 'psutil', 'grpc', 'ssl'}\n"
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


# The database


def test_the_url_of_the_database_is_kept_as_a_secret() -> None:
    url = "mongodb://root:MARK@db:27017/novu-db?authSource=admin"
    settings = read(MONGO_URL=url)
    assert settings.mongo_url is not None
    assert settings.mongo_url.reveal() == url
    assert "MARK" not in repr(settings)
    assert "MARK" not in str(settings.mongo_url)


@pytest.mark.parametrize(
    "url",
    [
        "MARK",
        "http://u:MARK@h/d",
        "mongodb://",
        "mongodb://u:MA/RK@h/d",
        "mongodb://u:MARK@h:port/d",
        "mongodb://u:MARK@h:99999/d",
        "mongodb://u:MARK%@h/d",
    ],
)
def test_a_malformed_url_is_refused(tmp_path: Path, url: str) -> None:
    message = refusal(MONGO_URL=url)
    assert message.startswith("MONGO_URL can't be used: ")
    assert "MARK" not in message
    (tmp_path / "url").write_text(url)
    message = refusal_in(tmp_path, {"MONGO_URL_FILE": "url"})
    assert message.startswith("MONGO_URL_FILE names the file url, which can't be used: ")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_url_may_come_from_a_file(tmp_path: Path, end: str) -> None:
    (tmp_path / "url").write_bytes(f"mongodb://u:p@h/d{end}".encode())
    for name in ("url", str(tmp_path / "url")):
        settings = read_in(tmp_path, {"MONGO_URL_FILE": name})
        assert settings.mongo_url is not None
        assert settings.mongo_url.reveal() == "mongodb://u:p@h/d"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "url, which does not exist"),
        (b"", "url, which is empty"),
        (b"\n\n", "url, which is empty"),
        (b"\xffMARK", "url, which is not UTF-8"),
    ],
)
def test_a_bad_file_of_the_url_is_refused_with_its_path(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    path = str(tmp_path / "url")
    message = refusal_in(tmp_path, {"MONGO_URL_FILE": path})
    assert message.startswith(f"MONGO_URL_FILE names the file {tmp_path}")
    assert fault in message


def test_a_url_in_place_of_its_file_is_refused() -> None:
    message = refusal(MONGO_URL_FILE="mongodb://u:MARK@h/d")
    assert "holds the content itself" in message
    assert "MARK" not in message


def test_url_and_file_both_set_in_one_source_are_refused(tmp_path: Path) -> None:
    both = {"MONGO_URL": "mongodb://u:MARK@h", "MONGO_URL_FILE": "url"}
    assert "MONGO_URL and MONGO_URL_FILE are both set in the environment" in refusal(**both)
    (tmp_path / ".env").write_text("".join(f"{name}={text}\n" for name, text in both.items()))
    assert "are both set in the file" in refusal_in(tmp_path, {})


def test_of_url_and_file_in_two_sources_the_real_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mongodb://secret")
    (tmp_path / ".env").write_text("MONGO_URL=mongodb://filed\n")
    settings = read_in(tmp_path, {"MONGO_URL_FILE": "url"})
    assert settings.mongo_url is not None
    assert settings.mongo_url.reveal() == "mongodb://secret"
    (tmp_path / ".env").write_text("MONGO_URL_FILE=url\n")
    settings = read_in(tmp_path, {"MONGO_URL": "mongodb://real", "MONGO_URL_FILE": ""})
    assert settings.mongo_url is not None
    assert settings.mongo_url.reveal() == "mongodb://real"


# Oddities


def test_a_misspelt_variable_of_ours_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTEL_NOVU_SPOOL_MAX_AGES=MARK\n")
    environ = {
        "OTEL_NOVU_QUERY_TIMOUT": "MARK",
        "OTEL_NOVU_XYZ": "MARK",
        "OTEL_NOVU_NOTHING": "",
        "OTEL_OTHER": "MARK",
    }
    ignored = "means nothing to otel-novu and is ignored"
    assert read_in(tmp_path, environ).warnings == (
        f"the variable OTEL_NOVU_QUERY_TIMOUT {ignored}; did you mean OTEL_NOVU_QUERY_TIMEOUT?",
        f"the variable OTEL_NOVU_SPOOL_MAX_AGES {ignored}; did you mean OTEL_NOVU_SPOOL_MAX_AGE?",
        f"the variable OTEL_NOVU_XYZ {ignored}",
    )


@pytest.mark.parametrize("name", ALL_NAMES)
@pytest.mark.parametrize("text", ["MARK\udcff", "MARK\0"])
def test_bytes_that_are_no_text_are_refused(name: str, text: str) -> None:
    message = refusal(**{name: text})
    assert message == f"{name} holds bytes that are not UTF-8 text; accepted: UTF-8 text"


SECRET = "Zq7MARKx9"  # of letters that no sentence of ours holds


@given(
    name=st.sampled_from(ALL_NAMES),
    protocol=st.sampled_from(["", "grpc"]),
    before=st.text(st.sampled_from("mongodb+srvhttps:/@%=,;?#[]-. \n\0é1u"), max_size=16),
    after=st.text(st.sampled_from("/@%=,;:?#[]. \n\0é1h"), max_size=12),
)
def test_no_error_no_warning_and_no_repr_shows_a_secret(
    name: str, protocol: str, before: str, after: str
) -> None:
    environ = {f"{OTLP}_PROTOCOL": protocol, name: f"{before}{SECRET}{after}"}
    assert_hidden(environ)


@given(
    scheme=st.sampled_from(["http://", "https://", "mongodb://", "mongodb+srv://", ""]),
    between=st.sampled_from([":", "%", "/", "@", "?", "#", "\\", " ", "%zz", "[", "\n", ":1/"]),
    host=st.sampled_from(["@h", "@h:1", "@", "@h:x", "@[::1", "@h/d", "/@h", "", "@h@h", "?@h"]),
    name=st.sampled_from(["MONGO_URL", f"{OTLP}_ENDPOINT", f"{OTLP}_METRICS_ENDPOINT"]),
    protocol=st.sampled_from(["", "grpc"]),
)
def test_no_error_shows_the_password_of_a_url(
    scheme: str, between: str, host: str, name: str, protocol: str
) -> None:
    url = f"{scheme}user:{between}{SECRET}{host}"
    assert_hidden({f"{OTLP}_PROTOCOL": protocol, name: url})


def assert_hidden(environ: Mapping[str, str]) -> None:
    try:
        settings = load(environ, env_file=None, cwd=NOWHERE, home=NOWHERE)
    except SettingsError as error:
        if "names the file " in str(error):
            return  # a path is no secret
        assert SECRET not in str(error)  # noqa: PT017 - both ends are lawful
        return
    # A path, a name and an attribute are no secrets.
    rest = dataclasses.replace(settings, state_dir=NOWHERE, service_name="", resource_attributes={})
    assert SECRET not in repr(rest)


# The table


def test_the_table_names_each_variable_once() -> None:
    assert len(ALL_NAMES) == len(set(ALL_NAMES))


def test_every_default_of_the_table_is_accepted() -> None:
    for row in VARIABLES:
        assert not row.default or row.unset == "none"
        if row.default:
            row.reader.read(row.default)


def test_the_table_is_shown_as_markdown() -> None:
    lines = as_markdown(VARIABLES).splitlines()
    assert len(lines) == len(VARIABLES) + 2
    assert {line.count("|") - line.count("\\|") for line in lines} == {5}
    for name in ALL_NAMES:
        assert any(f"`{name}`" in line.split("|")[1] for line in lines)
