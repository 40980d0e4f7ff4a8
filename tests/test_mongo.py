"""The driver: its URL, TLS, and the reasons why a server can't be read."""

import logging
import ssl
import subprocess
import sys
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta
from operator import not_
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from name_server import name_server
from scripted_mongo import (
    HELLO,
    Answers,
    Hang,
    answering,
    closing,
    failing,
    scripted_mongo,
    serving,
    silent,
)
from servers import eventually
from stack import free_port

from otel_novu.metrics.usage import FIGURES
from otel_novu.settings import Secret
from otel_novu.sources.mongo import TIMED_OUT, MongoUrlError, address, check_url
from otel_novu.sources.novu import read_round

SECRET = "s3cretW0rd"
NAMES = {figure.name for figure in FIGURES}
SHORT, LONG = 1.5, 60.0  # seconds of a round
STALL = 45.0  # a busy machine may stall
NOW = HELLO["localTime"].timestamp()
AUTH = "not authenticated (code 18): user, password or authSource is wrong; in a compose file"
SILENT = "timed out: the server does not answer"
AWAY = "the server can't be reached: "
FORM = "is not a valid MongoDB URL; expected mongodb://[user:password@]host"
PORT = "has a port that is not a number from 1 to 65535; expected mongodb://[user:password@]host"
MISFIT = "has options or files that do not fit together; expected options"


def reasons_of(url: str, timeout: float) -> dict[str, str]:
    began = time.monotonic()
    reasons = read_round(Secret(url), {}, timeout, lambda: NOW).reasons
    assert time.monotonic() - began < timeout + STALL
    assert SECRET not in repr(reasons)
    # No thread stays; one that still began TLS with a server that ends would leak its socket.
    eventually(lambda: [each for each in threading.enumerate() if "pymongo" in each.name], not_)
    return reasons


ROUND = """
import sys
from otel_novu.settings import Secret
from otel_novu.sources.novu import read_round
print(*set(read_round(Secret(sys.argv[1]), {}, 2, lambda: 0.0).reasons.values()))
"""


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
def test_a_resolver_that_hangs_does_not_hold_a_round(scheme: str, tmp_path: Path) -> None:
    with name_server() as names:  # it would hold one for a minute
        url = f"{scheme}://db.example.org"
        command = names.program(tmp_path, [sys.executable, "-c", ROUND, url])
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=STALL)
        assert names.questions
    # Which one depends on whose limit is over first.
    reasons = (SILENT, f"{AWAY}its SRV record can't be resolved", TIMED_OUT)
    assert done.stdout.removesuffix("\n") in reasons


OLD = {**HELLO, "maxWireVersion": 5}
NOT_INITIATED = {**HELLO, "ismaster": False, "isWritablePrimary": False, "isreplicaset": True}
NO_SET = "the server is in no replica set of that name; check replicaSet"
HANGS = answering(count=Hang(), aggregate=Hang(), listCollections=Hang())


def member(*hosts: str) -> Answers:
    """A primary whose replica set has these members."""
    hello = {**HELLO, "setName": "rs0", "hosts": hosts}
    return serving(hello=hello, ismaster=hello)


LIMITS = "?serverSelectionTimeoutMS=90000&timeoutMS=90000&socketTimeoutMS=90000&minPoolSize=20"


@pytest.mark.parametrize(
    ("script", "options", "reason"),
    [
        (silent, "", SILENT),
        (silent, LIMITS, SILENT),
        (HANGS, "", "timed out; OTEL_NOVU_QUERY_TIMEOUT may be too short"),
        (closing, "", f"{AWAY}it closes the connection; does it want TLS?"),
        (serving(hello=failing(10107)), "", "the server steps down or starts: no primary"),
        (serving(hello=failing(18)), "", AUTH),
        (serving(hello=failing(8000)), "", AUTH.replace("18", "8000")),
        (serving(), "?tls=true", "TLS: no connection can be made; does the server speak TLS?"),
        (answering(hello=OLD, ismaster=OLD), "", "the server is too old for the driver: MongoDB"),
        (serving(), "?replicaSet=rs", NO_SET),
        (member("localhost"), "?replicaSet=rs", NO_SET),
        (member("localhost"), "?replicaSet=rs&directConnection=true", NO_SET),
        (
            answering(hello=NOT_INITIATED, ismaster=NOT_INITIATED),
            "",
            "is its replica set initiated",
        ),
        (
            serving(),
            "?authMechanism=GSSAPI",
            "a Python package that authMechanism needs is missing",
        ),
    ],
)
def test_without_an_answer_every_figure_fails_in_time_for_the_same_reason(
    script: Answers, options: str, reason: str
) -> None:
    with scripted_mongo(script) as server:
        user = f"root:{SECRET}@" if "auth" in options else ""
        reasons = reasons_of(f"mongodb://{user}127.0.0.1:{server.port}/novu-db{options}", SHORT)
    assert reasons.keys() == NAMES
    assert len(set(reasons.values())) == 1
    assert reason in reasons["user.count"]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1:{port}", "it refuses connections"),
        ("[::1]:{port}", "it refuses connections"),
        ("nowhere.invalid", "its name can't be resolved"),
        ("%2Ftmp%2Fnothing-{port}.sock", "there is no such socket"),
        ("srv", "its SRV record can't be resolved"),
    ],
)
def test_a_server_that_can_not_be_reached_is_told_by_its_cause(host: str, reason: str) -> None:
    url = f"mongodb://root:{SECRET}@{host.format(port=free_port())}"
    if host == "srv":
        url = f"mongodb+srv://root:{SECRET}@cluster.nowhere.invalid"
    for options in ("", "/?replicaSet=rs0"):
        assert set(reasons_of(url + options, 6).values()) == {AWAY + reason}


@pytest.mark.parametrize(
    ("hosts", "named", "cause"),
    [
        (["mongo1.invalid:27017"], "mongo1.invalid:27017", "its name can't be resolved"),
        (["127.0.0.1:1", "127.0.0.1:2"], "127.0.0.1:1, 127.0.0.1:2", "it refuses connections"),
        (["127.0.0.1:{silent}"], "127.0.0.1:{silent}", SILENT),
    ],
)
def test_a_member_that_can_not_be_reached_is_named_and_can_be_left_out(
    hosts: list[str], named: str, cause: str
) -> None:
    with scripted_mongo(silent) as hung:
        script = member(*(host.format(silent=hung.port) for host in hosts))
        where = f"{named.format(silent=hung.port)} of its replica set"
        reason = f"the server answered, but {where} can't be reached ({cause}); correct that, or"
        with scripted_mongo(script) as server:
            url = f"mongodb://127.0.0.1:{server.port}/novu-db"
            for options in ("", "?replicaSet=rs0"):
                reasons = set(reasons_of(url + options, 6).values())
                assert reasons == {f"{reason} name one server and add directConnection=true"}
            assert reasons_of(f"{url}?directConnection=true", LONG) == {}


@pytest.mark.parametrize(
    ("name", "days", "authority", "reason"),
    [
        ("127.0.0.1", 1, "ours", ""),
        ("127.0.0.1", 1, "another", "is not trusted; check tlsCAFile"),
        ("db.example.org", 1, "ours", "is for another host"),
        ("127.0.0.1", -1, "ours", "is out of date"),
    ],
)
def test_tls_checks_the_certificate(
    name: str, days: int, authority: str, reason: str, tmp_path: Path
) -> None:
    authorities = {"ours": trustme.CA(), "another": trustme.CA()}
    authorities["ours"].cert_pem.write_to_path(tmp_path / "ca.pem")
    end = datetime.now(UTC) + timedelta(days=days)
    made = authorities[authority].issue_cert(name, not_before=end - timedelta(9), not_after=end)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.configure_cert(context)
    with scripted_mongo(serving(), context) as server:
        url = f"mongodb://127.0.0.1:{server.port}/?tls=true&tlsCAFile={tmp_path}/ca.pem"
        reasons = reasons_of(url, 6 if reason else LONG)
    expected = {f"TLS: the server's certificate {reason}"} if reason else set()
    assert set(reasons.values()) == expected


@pytest.mark.parametrize(
    ("script", "speaks_tls", "options", "reason"),
    [
        (silent, False, "?tls=true", "TLS: no connection can be made; does the server speak TLS?"),
        (serving(), True, "", f"{AWAY}it closes the connection; does it want TLS?"),
    ],
)
def test_tls_on_one_side_only_is_told(
    script: Answers, *, speaks_tls: bool, options: str, reason: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with scripted_mongo(script, context if speaks_tls else None) as server:
        reasons = reasons_of(f"mongodb://127.0.0.1:{server.port}/{options}", 12)
    assert set(reasons.values()) == {reason}


def test_a_real_server_without_tls_is_told(mongo_url: str) -> None:
    reasons = reasons_of(f"{mongo_url}&tls=true", 12)
    assert set(reasons.values()) == {"TLS: no connection can be made; does the server speak TLS?"}


PEM = "names a file that contains no PEM certificate"
KEY = "names a file without a PEM certificate and its key, or tlsCertificateKeyFilePassword"
MISSING = "names a file that can't be read (No such file or directory)"


@pytest.mark.parametrize(
    ("option", "content", "fault"),
    [
        ("tlsCAFile", None, MISSING),
        ("tlsCAFile", "", PEM),
        ("tlsCAFile", "text", PEM),
        ("tlsCertificateKeyFile", None, MISSING),
        ("tlsCertificateKeyFile", "", KEY),
        ("tlsCertificateKeyFile", "certificate", KEY),
        ("tlsCertificateKeyFile", "encrypted", KEY),
    ],
)
def test_a_bad_file_is_named_by_its_option_and_its_fault(
    option: str, content: str | None, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / SECRET
    if content is not None:
        path.write_text({**pem_files(), "": "", "text": "text"}[content])
    with pytest.raises(MongoUrlError) as raised:
        check_url(Secret(f"{U}@h/?tls=true&{option}={path}"))
    assert str(raised.value).startswith(f"MONGO_URL: the option {option} {fault}")
    assert SECRET not in str(raised.value)


def test_a_client_certificate_may_need_a_password(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    path.write_text(pem_files()["encrypted"])
    options = f"tlsCertificateKeyFile={path}&tlsCertificateKeyFilePassword={SECRET}"
    assert check_url(Secret(f"{U}@h/?{options}")) == []


def pem_files() -> dict[str, str]:
    """A client certificate, alone and with a key that only the secret opens."""
    made = trustme.CA().issue_cert("127.0.0.1")
    certificate = made.cert_chain_pems[0].bytes().decode()
    private = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    key = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(SECRET.encode()),
    )
    return {"certificate": certificate, "encrypted": certificate + key.decode()}


U = f"mongodb://root:{SECRET}"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("mongodb://localhost", "localhost/novu-db"),
        (f"{U}@mongodb:27017/novu_db?authSource=admin", "mongodb:27017/novu_db"),
        (f"{U}@a:1,b:2,c/?replicaSet=rs0&readPreferenceTags=a:b&w=majority", "a:1,b:2,c/novu-db"),
        (f"{U}%40%3A%2F%25%23%3F%C3%BC@h/novu%2Ddb", "h/novu-db"),
        (f"{U}@[::1]:27017/x", "[::1]:27017/x"),
        (f"{U}@%2Ftmp%2Fmongodb-27017.sock/x", "%2Ftmp%2Fmongodb-27017.sock/x"),
        (f"mongodb+srv://root:{SECRET}@c0.example.org/x?retryWrites=true", "c0.example.org/x"),
        (f"{U}@h?tls=true&compressors=snappy,zlib&maxStalenessSeconds=1", "h/novu-db"),
        (f"{U}+@h/a+b?tls=true&", "h/a+b"),
        (f"{U}==@h.example.org:10255/?ssl=true&appName=@account@", "h.example.org:10255/novu-db"),
    ],
)
def test_a_good_url_is_accepted_without_dns_and_shown_without_credentials(
    url: str, where: str
) -> None:
    assert check_url(Secret(url)) == []
    assert address(Secret(url)) == where


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        *[(rest, FORM) for rest in ("@", "@a,,b", "@::1/x")],
        *[(f"@h:{port}/novu-db", PORT) for port in ("99999", "0", "port")],
        *[(rest, FORM) for rest in ("@h/a b", "@h/a%00b", "@x@h/novu-db", "/x@h/novu-db")],
        *[(rest, FORM) for rest in ("?x=1@h", ":x@h", "%zz@h")],
        ("@h/?tls=perhaps", "the option tls can't be used"),
        ("@h/?directConnection=perhaps", "the option directConnection can't be used"),
        ("@h/?tlsCertificates=1", "the option tlsCertificates can't be used"),
        (f"@h/?authMechanism={SECRET}", "the option authMechanism can't be used"),
        ("@a,b/?directConnection=true", MISFIT),
        ("@h/?srvMaxHosts=2", MISFIT),
    ],
)
def test_a_bad_url_is_one_sentence_without_a_secret(rest: str, words: str) -> None:
    with pytest.raises(MongoUrlError) as raised:
        check_url(Secret(U + rest))
    assert str(raised.value).startswith(f"MONGO_URL: {words}")
    assert not str(raised.value).endswith(".")  # callers make the sentence
    assert SECRET.lower() not in (repr(raised.value) + address(Secret(U + rest))).lower()
    assert reasons_of(U + rest, LONG) == dict.fromkeys(NAMES, str(raised.value))


def test_options_that_the_driver_ignores_are_named_without_their_values() -> None:
    found = check_url(Secret(f"{U}@h/?fancy={SECRET}&serverSelectionTimeoutMS={SECRET}&w=1&w=2"))
    ignored = [each.partition(" is ignored; expected ")[0] for each in found]
    assert ignored == [
        "MONGO_URL: the option fancy",
        "MONGO_URL: the option serverSelectionTimeoutMS",
    ]
    assert SECRET not in "".join(found)
    assert not any(each.endswith(".") for each in found)


def test_no_log_line_and_no_warning_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        for script in (serving(), closing):
            with scripted_mongo(script) as server:
                reasons_of(f"{U}@127.0.0.1:{server.port}/?fancy={SECRET}&w={SECRET}", SHORT)
    seen = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert SECRET not in seen + "".join(str(each.message) for each in caught)
