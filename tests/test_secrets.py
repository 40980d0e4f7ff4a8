"""A secret stays one through every command and failure, however malformed what holds it is."""

import base64
import contextlib
import io
import logging
import os
import re
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import grpc
import pytest
from canaries import files_in, sightings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from receivers import Listener
from scripted_mongo import Document, answering, failing, scripted_mongo
from servers import ExporterRunner

from otel_novu import cli
from otel_novu.delivery.otlp import sender
from otel_novu.environment.table import VARIABLES
from otel_novu.settings import load
from otel_novu.state.directory import StateDirectory
from otel_novu.state.pseudonym import pseudonyms

MARK = "S3CRETMARKED00017"
MONGO_URL, ENDPOINT = "MONGO_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS, PROTOCOL = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_PROTOCOL"
COMMANDS = (
    "once",
    "check",
    "check --json",
    "show",
    "show --otlp",
    "show --queries",
    "show --last",
    "spool --flush",
    "telemetry status",
    "telemetry disable",
    "reset-id",
    "health",
)
# What the operator writes there is meant for the collector, and shown as it is sent.
SENT_ON_PURPOSE = {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"}


# Where the commands go: peers that refuse, and repeat what they were told


@dataclass(frozen=True)
class Peers:
    """Places that a URL can name."""

    mongo: str
    http: str
    grpc: str


def echo(connection: socket.socket, _: Event) -> None:
    """Refuse with all that was sent, as a receiver that debugs might, in every form of it."""
    with connection.makefile("rb") as stream:
        head = b"".join(iter(lambda: stream.readline().strip(b"\r\n") + b" ", b" "))
    basic = re.findall(rb"Basic ([\w+/=]+)", head)
    forms = (*map(base64.b64decode, basic), quote(head).encode(), unquote_to_bytes(head), head)
    body = b" ".join(forms)
    connection.sendall(
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + body
    )


class EchoCall(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Refuse a call with all its metadata, as they came and percent-encoded."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Take every call."""
        assert details.method

        def refuse(_: bytes, call: grpc.ServicerContext) -> bytes:
            told = " ".join(f"{key}: {value!s}" for key, value in call.invocation_metadata())
            call.set_code(grpc.StatusCode.UNAUTHENTICATED)
            call.set_details(f"{told} {quote(told)}")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


@contextlib.contextmanager
def echoing_grpc() -> Iterator[int]:
    """Serve on a port."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((EchoCall(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait(10)


def refuse_login(command: Document) -> Document:
    """Fail every login, with the password in the words."""
    refused = failing(18, f"Authentication failed for {MARK}")
    return answering(saslStart=refused, saslContinue=refused, count=refused, aggregate=refused)(
        command
    )


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    with (
        scripted_mongo(refuse_login) as mongo,
        Listener(echo) as http_peer,
        echoing_grpc() as grpc_port,
    ):
        yield Peers(*(f"127.0.0.1:{port}" for port in (mongo.port, http_peer.port, grpc_port)))


# What holds the secret

ODD = st.text("@:/?#[]%&=;,+ \t'\"\\.-_~$!*()<>{}|^`0aZ\u00e9\u20ac\u200b", max_size=4)
HOSTS = ("{place}", "127.0.0.1:1", "no-such-host.invalid", "[::1]:1", "", "a b", "127.0.0.1:99999")


def held(raw: str) -> st.SearchStrategy[str]:
    """Put the mark between odd characters, as it is or percent-encoded, now and then badly."""
    return st.builds(
        lambda before, behind, form: form(before + raw + behind),
        ODD,
        ODD,
        st.sampled_from(
            [
                str,
                lambda text: quote(text, safe=""),
                lambda text: quote(text, safe="@:/"),
                lambda text: f"{text}%",
                lambda text: f"%zz{text}",
            ]
        ),
    )


SECRETS = held(MARK)
OPTION = st.one_of(
    st.just("authSource=admin"),
    st.builds("{}={}".format, st.sampled_from(["w", "tls", "fancy", "authMechanism"]), SECRETS),
    SECRETS,
)
QUERIES = st.one_of(
    st.just(""),
    st.lists(OPTION, min_size=1, max_size=2).map(lambda options: f"?{'&'.join(options)}"),
)
USERINFO = st.one_of(
    st.builds("u:{}@".format, SECRETS),
    st.builds("{}:{}@".format, SECRETS, SECRETS),
    st.builds(":{}@".format, SECRETS),
)
MONGO_URLS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["mongodb://", "mongodb+srv://", "mongo://", "MONGODB://", "", " mongodb://"]),
    USERINFO,
    st.sampled_from(HOSTS),
    st.sampled_from(["/novu-db", "/", "", "/a.b", "/a/b"]),
    QUERIES,
)
ENDPOINTS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "ftp://", "", "http:/", "HTTP://"]),
    USERINFO,
    st.sampled_from(HOSTS),
    st.sampled_from(["", "/", "/v1/metrics"]),
    st.one_of(
        st.just(""), st.builds("?token={}".format, SECRETS), st.builds("#{}".format, SECRETS)
    ),
)
HEADER = st.one_of(
    st.builds("authorization={}".format, SECRETS),
    st.builds("Authorization: {}".format, SECRETS),
    st.builds("x-token=Bearer%20{}".format, SECRETS),
    st.builds("x y {}=value".format, SECRETS),
    st.builds("grpc-timeout={}".format, SECRETS),
    st.builds("content-type={}".format, SECRETS),
    SECRETS,
)
HEADER_LISTS = st.lists(HEADER, min_size=1, max_size=3).map(",".join)

ENVIRONMENTS = st.one_of(
    st.fixed_dictionaries({MONGO_URL: MONGO_URLS}),
    st.fixed_dictionaries({ENDPOINT: ENDPOINTS, PROTOCOL: st.sampled_from(["", "grpc"])}),
    st.fixed_dictionaries(
        {
            HEADERS: HEADER_LISTS,
            PROTOCOL: st.sampled_from(["", "grpc"]),
            ENDPOINT: st.just("http://{place}"),
        }
    ),
    st.fixed_dictionaries(
        {
            MONGO_URL: st.builds("mongodb://u:{}@{{place}}/novu-db".format, SECRETS),
            ENDPOINT: st.builds("http://u:{}@{{place}}".format, SECRETS),
            HEADERS: HEADER_LISTS,
        }
    ),
    st.fixed_dictionaries(
        {
            "HTTP_PROXY": st.builds(
                "{}{}{{place}}".format, st.sampled_from(["http://", "socks://", ""]), USERINFO
            ),
            ENDPOINT: st.just("http://collector.invalid:4318"),
        }
    ),
)
# How a value comes to the command.
WAYS = ("environment", ".env", "--env-file", "reference", "MONGO_URL_FILE")


@dataclass(frozen=True)
class Call:
    """A command in a folder, with an environment."""

    folder: Path
    arguments: list[str]
    environ: Mapping[str, str]


def arrange(folder: Path, command: str, way: str, variables: Mapping[str, str]) -> Call:
    """Hand variables to a command in one of the ways."""
    base = {
        "OTEL_NOVU_STATE_DIR": str(folder / "state"),
        "OTEL_NOVU_QUERY_TIMEOUT": "0.5",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
    }
    arguments = [*command.split(), "--verbose"]
    if way == "environment":
        lawful = {name: text.replace("\0", "") for name, text in variables.items()}
        return Call(folder, arguments, {**base, **lawful})
    if way == "MONGO_URL_FILE" and MONGO_URL in variables:
        (folder / "url").write_text(variables[MONGO_URL])
        rest = {name: text for name, text in variables.items() if name != MONGO_URL}
        return Call(folder, arguments, {**base, **rest, "MONGO_URL_FILE": "url"})
    lines = [f"{name}={text}" for name, text in variables.items()]
    if way == "reference":
        lines = [f"SECRET_{name}={text}" for name, text in variables.items()]
        lines += [f"{name}=${{SECRET_{name}}}" for name in variables]
    file = folder / (".env" if way != "--env-file" else "variables")
    file.write_text("\n".join(lines))
    arguments += ["--env-file", "variables"] if way == "--env-file" else []
    return Call(folder, arguments, base)


def called(call: Call) -> tuple[int, str]:
    """Call the command in this process; its exit code, and all that it said."""
    said = io.StringIO()
    with (
        only_environment(call.environ),
        contextlib.chdir(call.folder),
        own_log(),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            code = cli.main(call.arguments)
        except Exception:  # noqa: BLE001 - a crash is what is sought
            return -1, f"{said.getvalue()}\nTraceback {traceback.format_exc()}"
    return code, said.getvalue()


@contextlib.contextmanager
def only_environment(environ: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def own_log() -> Iterator[None]:
    """Leave the loggers as they were found."""
    names = ("otel_novu", "pymongo", "urllib3", "requests", "opentelemetry")
    logs = [logging.getLogger(name) for name in names]
    before = [(log.handlers[:], log.level, log.propagate) for log in logs]
    try:
        yield
    finally:
        for log, (handlers, level, propagate) in zip(logs, before, strict=True):
            log.handlers[:], log.propagate = handlers, propagate
            log.setLevel(level)


def check_kept(call: Call) -> None:
    code, said = called(call)
    assert sightings(said, [MARK]) == [], said
    assert "Traceback" not in said, said
    assert code in {0, 1, 2}
    state = call.folder / "state"
    for found in files_in(state) if state.is_dir() else ():
        assert sightings(found.data, [MARK]) == [], found.name
    others = [found.name for found in files_in(call.folder) if sightings(found.name, [MARK])]
    assert others == []


def placed(variables: Mapping[str, str], peers: Peers) -> dict[str, str]:
    """Put a peer's address where a URL leaves its place open."""
    grpc_wanted = variables.get(PROTOCOL) == "grpc"
    collector = peers.grpc if grpc_wanted else peers.http
    return {
        name: text.replace("{place}", peers.mongo if name == MONGO_URL else collector)
        for name, text in variables.items()
    }


@settings(
    max_examples=800,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ENVIRONMENTS, st.sampled_from(COMMANDS), st.sampled_from(WAYS))
@example({MONGO_URL: f"mongodb://u:1/{MARK}?x=@{{place}}/d"}, "check", "environment")
@example({MONGO_URL: f"mongodb://u:p@x/{MARK}?y=@{{place}}"}, "check", "environment")
@example({MONGO_URL: f"mongodb://u:a/{MARK}@{{place}}"}, "once", "environment")
@example({ENDPOINT: f"http://u:1/{MARK}@{{place}}"}, "once", "environment")
@example({ENDPOINT: f"http://u:1?{MARK}@{{place}}"}, "once", "environment")
@example({HEADERS: f"Authorization: Bearer {MARK}"}, "once", "environment")
def test_no_command_ever_shows_or_keeps_the_secret(
    tmp_path_factory: pytest.TempPathFactory,
    peers: Peers,
    variables: dict[str, str],
    command: str,
    way: str,
) -> None:
    folder = tmp_path_factory.mktemp("call")
    check_kept(arrange(folder, command, way, placed(variables, peers)))


MISPLACED = (
    f"mongodb://root:{MARK}@127.0.0.1:1/novu-db",
    f"authorization=Bearer%20{MARK}",
    f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----",
    MARK,
)


@pytest.mark.parametrize(
    "name",
    sorted({name for variable in VARIABLES for name in variable.names} - SENT_ON_PURPOSE),
)
@pytest.mark.parametrize("command", ["once", "check"])
def test_a_secret_in_another_variables_place_is_not_shown(
    name: str, command: str, tmp_path: Path, peers: Peers
) -> None:
    for number, secret in enumerate(MISPLACED):
        folder = tmp_path / str(number)
        folder.mkdir()
        # A lawful host name or path is shown; that it is a secret, nobody can know.
        shown = name in SHOWN and "=" not in secret and "://" not in secret
        shown = shown or (name == "OTEL_NOVU_STATE_DIR" and "=" in secret)
        variables = {ENDPOINT: f"http://{peers.http}", "NOVU_TELEMETRY": "off", name: secret}
        if not shown:
            check_kept(arrange(folder, command, "environment", variables))


SHOWN = {
    "OTEL_NOVU_STATE_DIR",
    "MONGO_URL_FILE",
    *(
        f"OTEL_EXPORTER_OTLP_{infix}{kind}"
        for infix in ("", "METRICS_")
        for kind in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "ENDPOINT")
    ),
}


# As processes


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {MONGO_URL: f"mongodb://u:a/{MARK}@127.0.0.1/novu-db"},
        {HEADERS: f"Authorization: Bearer {MARK}"},
        {ENDPOINT: f"http://u:a b{MARK}@127.0.0.1"},
    ],
    ids=["all lawful", "malformed URL", "malformed headers", "malformed endpoint"],
)
def test_no_process_says_the_secret(
    protocol: str,
    change: Mapping[str, str],
    peers: Peers,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    place = peers.grpc if protocol == "grpc" else f"u:{MARK}@{peers.http}"
    env = {
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_QUERY_TIMEOUT": "1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        PROTOCOL: protocol,
        MONGO_URL: f"mongodb://u:{MARK}@{peers.mongo}/novu-db?authSource=admin",
        ENDPOINT: f"http://{place}",
        HEADERS: f"x-token=Bearer%20{MARK}",
        **change,
    }
    running = exporter.start("run", "--verbose", env=env)
    if change:
        assert running.wait() == 2
    else:
        running.wait_for("The beacon report was not delivered")
        assert running.terminate() == 0
    said = "\n".join([*running.stdout, *running.stderr])
    assert sightings(said, [MARK]) == []
    assert "Traceback" not in said
    for found in files_in(state_dir):
        assert sightings(found.data, [MARK]) == [], found.name


# Files


def test_the_url_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"mongodb://root:{MARK}@db/novu-db\n")
    read = load({"MONGO_URL_FILE": "url"}, env_file=None, cwd=tmp_path, home=tmp_path)
    assert read.mongo_url is not None
    assert read.mongo_url.reveal() == f"mongodb://root:{MARK}@db/novu-db"
    assert MARK not in repr(read)
    assert MARK not in str(read)


def test_settings_and_what_is_made_of_them_do_not_show_a_secret() -> None:
    variables = {
        MONGO_URL: f"mongodb://root:{MARK}@db/novu-db",
        ENDPOINT: f"http://u:{MARK}@collector:4318/?token={MARK}",
        HEADERS: f"x-token={MARK}",
    }
    read = load(variables, env_file=None, cwd=Path("/"), home=Path("/"))
    made = sender(read.otlp)
    for thing in (read, read.otlp, read.mongo_url, *read.otlp.headers.values(), made):
        for text in (repr(thing), str(thing), f"{thing}", f"{[thing]}"):
            assert sightings(text, [MARK]) == []
    assert made.destination == "http://collector:4318/v1/metrics"


WRITERS: Mapping[str, Callable[[StateDirectory], object]] = {
    "a file": lambda state: state.write("any", b"x"),
    "a file in a folder": lambda state: state.write("folder/any", b"x"),
    "a key": pseudonyms,
    "a lock": lambda state: state.lock("run").release(),
}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("writer", WRITERS)
def test_only_the_owner_reads_what_is_kept_whatever_the_umask(
    writer: str, umask: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        with StateDirectory.open(tmp_path / "state") as state:
            WRITERS[writer](state)
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    for found in files_in(tmp_path / "state"):
        assert found.mode == (0o700 if found.is_folder else 0o600), found.name
