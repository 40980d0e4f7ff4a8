"""The environment, validated once, into one frozen object."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from otel_novu.env_file import read_env_file
from otel_novu.environment import endpoint, files, pairs, table
from otel_novu.environment.choices import Compression, Exporter, Protocol
from otel_novu.environment.faults import RefusedError, SettingsError, shown
from otel_novu.environment.table import VARIABLES
from otel_novu.environment.variable import Environment, Variable
from otel_novu.mongo_url import check_mongo_url

__all__ = [
    "VARIABLES",
    "Compression",
    "Exporter",
    "Otlp",
    "Protocol",
    "Secret",
    "Settings",
    "SettingsError",
    "Variable",
    "load",
]

DEFAULT_SERVICE_NAME = "novu"

_ENV_FILE = ".env"
# Of the example servers, not of the exporter.
_STACK_PREFIXES = (
    "OTEL_NOVU_CACHE",
    "OTEL_NOVU_COLLECTOR_",
    "OTEL_NOVU_DEBIAN_MIRROR",
    "OTEL_NOVU_REMOTE_WRITE_",
    "OTEL_NOVU_STACK_",
)
# Between a slip of a letter and the same variable of another signal (`..._LOGS_ENDPOINT`).
_NEARLY_EQUAL = 0.95
_OWN_PREFIX = "OTEL_NOVU_"
_SERVICE_NAME = "service.name"
_STATE_FOLDER = "otel-novu"
_DEFAULT_ENDPOINTS = {
    Protocol.HTTP: "http://localhost:4318/v1/metrics",
    Protocol.GRPC: "http://localhost:4317",
}


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no log, error or repr may show; `reveal` it only to the door that needs it."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __str__(self) -> str:
        """Hide the text."""
        return "***"


@dataclass(frozen=True, slots=True)
class Otlp:
    """The collector, and how to talk to it.

    Args:
        protocol: HTTP or gRPC.
        endpoint: for HTTP the whole URL that is posted to, for gRPC `http(s)://host:port`;
            may hold user name and password, therefore a secret.
        headers: sent with each request.
        timeout: of one attempt, seconds.
        compression: of the body.
        ca: PEM file of the authorities to trust, or None for the default ones.
        client_certificate: PEM file, or None.
        client_key: PEM file, or None where it is in the certificate's file.
    """

    protocol: Protocol
    endpoint: Secret
    headers: Mapping[str, Secret]
    timeout: float
    compression: Compression
    ca: Path | None
    client_certificate: Path | None
    client_key: Path | None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a user can set.

    Args:
        telemetry: `NOVU_TELEMETRY`, or None where it is not set.
        mongo_url: Novu's database, or None where it is not set.
        state_dir: where state is kept.
        instance_id: `OTEL_NOVU_INSTANCE_ID`, or None.
        query_timeout: for one round of all figures, seconds.
        interval: between two reports, seconds.
        exporters: where reports go; empty for `none`.
        sdk_disabled: `OTEL_SDK_DISABLED` is `true`: nothing is sent.
        otlp: the collector.
        service_name: `service.name` of the resource.
        resource_attributes: the operator's own, from `OTEL_RESOURCE_ATTRIBUTES`, without
            `service.name`.
        log_level: a level of `logging`.
        anonymize: host name and address leave only as keyed hashes.
        spool_max_age: how long a report waits before it is given up, seconds.
        spool_max_bytes: how much room waiting reports may take.
        warnings: sentences about what is odd but no error, for the log.
    """

    telemetry: bool | None
    mongo_url: Secret | None
    state_dir: Path
    instance_id: UUID | None
    query_timeout: float
    interval: float
    exporters: tuple[Exporter, ...]
    sdk_disabled: bool
    otlp: Otlp
    service_name: str
    resource_attributes: Mapping[str, str]
    log_level: int
    anonymize: bool = False
    spool_max_age: float = 7 * 86400.0
    spool_max_bytes: int = 64 * 2**20
    warnings: tuple[str, ...] = ()


def load(environ: Mapping[str, str], *, env_file: Path | None, cwd: Path, home: Path) -> Settings:
    """Read and judge everything that a user can set.

    Args:
        environ: the real environment, which is not changed.
        env_file: the file to read beside it, or None for `.env` in `cwd`, if there is one.
        cwd: the working directory, where relative paths begin.
        home: the user's own directory.

    Raises:
        SettingsError: a value, or a file that one names, can't be used.
    """
    passed_over = None if env_file is not None else _passed_over(cwd / _ENV_FILE)
    variables = {} if passed_over else _file_variables(environ, env_file, cwd)
    environment = Environment(environ, variables)
    attributes = environment.get(table.RESOURCE_ATTRIBUTES) or {}
    environment.value(table.TEMPORALITY)
    return Settings(
        telemetry=environment.get(table.TELEMETRY),
        mongo_url=_mongo_url(environment, cwd),
        state_dir=_state_dir(environment, cwd, home),
        instance_id=environment.get(table.INSTANCE_ID),
        query_timeout=environment.value(table.QUERY_TIMEOUT),
        interval=environment.value(table.INTERVAL) / 1000,
        exporters=environment.value(table.EXPORTERS),
        sdk_disabled=environment.value(table.SDK_DISABLED),
        otlp=_otlp(environment, cwd),
        service_name=environment.get(table.SERVICE_NAME)
        or attributes.get(_SERVICE_NAME)
        or DEFAULT_SERVICE_NAME,
        resource_attributes={k: v for k, v in attributes.items() if k != _SERVICE_NAME},
        log_level=environment.value(table.LOG_LEVEL),
        anonymize=environment.value(table.ANONYMIZE),
        spool_max_age=environment.value(table.SPOOL_MAX_AGE),
        spool_max_bytes=environment.value(table.SPOOL_MAX_BYTES),
        warnings=tuple(_warnings(environment, passed_over)),
    )


def _file_variables(
    environ: Mapping[str, str], env_file: Path | None, cwd: Path
) -> Mapping[str, str]:
    if env_file is not None:
        return read_env_file(cwd / env_file, environ)
    default = cwd / _ENV_FILE
    return read_env_file(default, environ) if _is_there(default) else {}


def _passed_over(path: Path) -> str | None:
    """Tell what stands in the place of the file where nobody asked for it to be read."""
    with suppress(OSError):  # then reading it says why
        # As compose does: some keep a virtual environment there.
        if path.is_dir():
            return "directory"
        if path.is_fifo():
            return "pipe"
    return None


def _is_there(path: Path) -> bool:
    """Tell whether a file has to be read; one that can't be looked at has, and says why."""
    try:
        return bool(path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _mongo_url(environment: Environment, cwd: Path) -> Secret | None:
    source = _mongo_source(environment)
    if file := source.get(table.MONGO_URL_FILE):
        subject = f"{table.MONGO_URL_FILE.name} names {files.named(file)}, which"
        with source.naming(table.MONGO_URL_FILE):
            url = files.secret(file, cwd)
    else:
        subject = table.MONGO_URL.name
        url = source.text(subject)
    if not url:
        return None
    if fault := check_mongo_url(url):
        accepted = table.MONGO_URL.reader.accepted
        message = f"{subject} can't be used: {fault}; accepted: {accepted}"
        raise SettingsError(message)
    return Secret(url)


def _mongo_source(environment: Environment) -> Environment:
    """Return the source that names the database: the real environment, else the file."""
    for source, where in ((environment.real, "the environment"), (environment.file, "the file")):
        alone = Environment(source, {})
        given = [alone.is_set(table.MONGO_URL), alone.is_set(table.MONGO_URL_FILE)]
        if all(given):
            message = f"MONGO_URL and MONGO_URL_FILE are both set in {where}; accepted: one of them"
            raise SettingsError(message)
        if any(given):
            return alone
    return Environment({}, {})


def _state_dir(environment: Environment, cwd: Path, home: Path) -> Path:
    if chosen := environment.get(table.STATE_DIR):
        return cwd / chosen
    xdg = Path(environment.text("XDG_STATE_HOME"))
    # "If an implementation encounters a relative path [...] it should consider the path invalid
    # and ignore it": XDG Base Directory Specification.
    base = xdg if xdg.is_absolute() else home / ".local" / "state"
    return base / _STATE_FOLDER


def _otlp(environment: Environment, cwd: Path) -> Otlp:
    protocol = environment.value(table.PROTOCOL)
    read_headers = pairs.grpc_headers if protocol is Protocol.GRPC else pairs.headers
    headers = environment.refine(table.HEADERS, read_headers)
    certificate, key = _client_certificate(environment, cwd)
    return Otlp(
        protocol=protocol,
        endpoint=Secret(_endpoint(environment, protocol)),
        headers={name: Secret(value) for name, value in headers.items()},
        timeout=environment.value(table.TIMEOUT),
        compression=_compression(environment, protocol),
        ca=_certificates(environment, table.CERTIFICATE, cwd),
        client_certificate=certificate,
        client_key=key,
    )


def _endpoint(environment: Environment, protocol: Protocol) -> str:
    bare_scheme = "http" if environment.value(table.INSECURE) else "https"
    if not environment.is_set(table.ENDPOINT):
        return _DEFAULT_ENDPOINTS[protocol]
    if protocol is Protocol.GRPC:
        return environment.refine(table.ENDPOINT, lambda text: endpoint.grpc(text, bare_scheme))
    if environment.setter(table.ENDPOINT) == table.ENDPOINT.name:
        return environment.refine(table.ENDPOINT, endpoint.http_base)
    return environment.refine(table.ENDPOINT, endpoint.http_as_is)


def _compression(environment: Environment, protocol: Protocol) -> Compression:
    compression = environment.value(table.COMPRESSION)
    with environment.naming(table.COMPRESSION):
        if protocol is Protocol.GRPC and compression is Compression.DEFLATE:
            raise RefusedError("is deflate, which gRPC does not know")
    return compression


def _certificates(environment: Environment, variable: Variable[Path], cwd: Path) -> Path | None:
    file = environment.get(variable)
    if file is None:
        return None
    with environment.naming(variable):
        return files.certificates(file, cwd)


def _client_certificate(environment: Environment, cwd: Path) -> tuple[Path | None, Path | None]:
    certificate = _certificates(environment, table.CLIENT_CERTIFICATE, cwd)
    key = environment.get(table.CLIENT_KEY)
    with environment.naming(table.CLIENT_KEY):
        if key is not None:
            files.content(key, cwd)
            if certificate is None:
                raise RefusedError("is set, but OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is not")
    if certificate is not None:
        with environment.naming(table.CLIENT_CERTIFICATE if key is None else table.CLIENT_KEY):
            files.key_pair(certificate, certificate if key is None else cwd / key)
    return certificate, None if key is None else cwd / key


def _misspelt(name: str, known: list[str]) -> str | None:
    """Tell which variable of others' making was meant: a mistyped opt-out must not be silent."""
    if name.startswith("NOVU_TELEMETRY"):
        return "NOVU_TELEMETRY"
    if not name.startswith(("OTEL_", "NOVU_", "MONGO_")):
        return None
    close = difflib.get_close_matches(name, known, n=1, cutoff=_NEARLY_EQUAL)
    return close[0] if close else None


def _doubtful_flag(environment: Environment) -> Iterator[str]:
    name = table.SDK_DISABLED.name
    word = environment.text(name)
    if word and word.strip().lower() not in {"true", "false"}:
        yield f"{name} is neither true nor false and is taken as false, as OpenTelemetry says"


def _warnings(environment: Environment, passed_over: str | None) -> Iterator[str]:
    if passed_over is not None:
        yield (
            f"{_ENV_FILE} in the working directory is a {passed_over}, and is passed over; "
            "--env-file names another file"
        )
    known = [name for variable in VARIABLES for name in variable.names]
    own = [name for name in known if name.startswith(_OWN_PREFIX)]
    for name in sorted({*environment.real, *environment.file}):
        if name in known or not environment.text(name) or name.startswith(_STACK_PREFIXES):
            continue
        if name.startswith(_OWN_PREFIX):
            close = difflib.get_close_matches(name, own, n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"the variable {shown(name)} means nothing to otel-novu and is ignored{hint}"
        elif meant := _misspelt(name, known):
            yield f"the variable {shown(name)} means nothing to otel-novu; did you mean {meant}?"
    yield from _doubtful_flag(environment)
    if environment.value(table.PROTOCOL) is Protocol.HTTP:
        setter = environment.setter(table.ENDPOINT)
        if setter == table.ENDPOINT.name and endpoint.ends_in_metrics_path(
            environment.text(setter)
        ):
            yield (
                f"{setter} ends in /v1/metrics, which is appended once more; "
                f"give the address without it, or set {table.ENDPOINT.winner}"
            )
