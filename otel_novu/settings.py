"""Every variable that a user can set: one row each, read once into one frozen object."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from otel_novu import env_file as dotenv
from otel_novu import otlp_settings as otlp
from otel_novu.otlp_settings import InvalidError, Otlp, Protocol, Secret, Variable

__all__ = ["VARIABLES", "Otlp", "Protocol", "Secret", "Settings", "load"]

# `$NAME` as a whole part of the URL, or `${`, which is in no URL.
_UNEXPANDED = re.compile(r"\$\{|(?:^|[/:@,])\$[A-Z][A-Z0-9_]+(?=[:@/?,]|$)")
# An error shows a value of these characters only: another one may be a misplaced secret.
_HARMLESS = re.compile(r"(?!.*://|-----)[\w ./,:+~-]{1,100}")
_QUOTED = re.compile(r"""(["'])((?:(?!\1).)*)\1""")
_RESERVED = re.compile(r"service\.instance\.id|telemetry\.(sdk|distro)\..*")
# Of examples/, and what Kubernetes makes of a service's name.
_OTHERS = re.compile(
    "OTEL_NOVU_(CACHE|COLLECTOR_|DEBIAN_MIRROR|REMOTE_WRITE_|STACK_).*"
    r"|.*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP).*)?)"
)
_NO_EFFECT = {
    "OTEL_CONFIG_FILE": "otel-novu reads variables only",
    "OTEL_EXPERIMENTAL_CONFIG_FILE": "otel-novu reads variables only",
    "OTEL_METRIC_EXPORT_TIMEOUT": "OTEL_EXPORTER_OTLP_TIMEOUT limits an attempt",
}
# A command that needs no database leaves them out.
MONGO = frozenset({"MONGO_URL", "MONGO_URL_FILE"})


class SettingsError(Exception):
    """A setting can't be used; the message is one sentence without secrets."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Times are in seconds.

    `warnings` are sentences for the log; those of what a user should correct are in `to_fix`, too.
    """

    telemetry: bool | None
    mongo_url: Secret | None
    state_dir: Path
    instance_id: UUID | None
    anonymize: bool
    query_timeout: float
    delivery_figures: bool
    spool_max_age: float
    spool_max_bytes: float
    interval: float
    exporters: tuple[str, ...]
    sdk_disabled: bool
    otlp: Otlp
    service_name: str
    resource_attributes: Mapping[str, str]
    log_level: int
    warnings: tuple[str, ...] = ()
    to_fix: frozenset[str] = frozenset()

    @property
    def why_nothing_is_sent(self) -> str | None:
        """Name the variable that says so; None: reports are sent."""
        if self.sdk_disabled:
            return "OTEL_SDK_DISABLED is true"
        return None if self.exporters else "OTEL_METRICS_EXPORTER is none"


def _quantity(units: Mapping[str, int], least: float, below: float, text: str) -> float:
    number = re.sub("[a-z]*$", "", text.lower())
    value = float(number) * units[text.lower()[len(number) :]]
    if not least <= value < below:
        raise InvalidError("is out of range")
    return value


def _interval(text: str) -> float:
    seconds = float(text) / 1000
    if not seconds >= 1:
        raise ValueError
    if seconds > 7 * 86400:
        raise InvalidError("is more than 7 days")
    return seconds


def _mongo_url(text: str) -> Secret:
    if _UNEXPANDED.search(text):
        raise InvalidError("contains a $NAME that was not expanded (write a literal $ as %24)")
    if not text.strip().startswith(("mongodb://", "mongodb+srv://")):
        raise InvalidError("is not a MongoDB URL")
    return Secret(text.strip())


def _exporters(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.lower().split(",")))
    known = tuple(name for name in names if name in ("otlp", "console", "none"))
    used = tuple(name for name in known if name != "none")
    if not known or names not in (used, ("none",)):
        raise InvalidError("is not valid", rest=used if known else None)
    return used


# fmt: off
_FLAG = otlp.words({"true": True, "1": True, "yes": True, "on": True}
                   | {"false": False, "0": False, "no": False, "off": False})
_FLAG_WORDS = "true/false, 1/0, yes/no or on/off"
_AGE = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
_LEVELS |= {"critical": 50, "fatal": 50}
VARIABLES: tuple[Variable, ...] = (
    Variable("NOVU_TELEMETRY", _FLAG, _FLAG_WORDS, field="telemetry"),
    Variable("MONGO_URL", _mongo_url, "a mongodb:// or mongodb+srv:// URL", secret=True),
    Variable("MONGO_URL_FILE", otlp.path, "the path of a readable file with a mongodb:// URL"),
    Variable("OTEL_NOVU_STATE_DIR", otlp.path, "the path of a directory, without ~"),
    Variable("OTEL_NOVU_INSTANCE_ID", UUID, "a UUID such as ba54fb29-6422-4a83-a0e4-951d767efa73",
             field="instance_id"),
    Variable("OTEL_NOVU_ANONYMIZE", _FLAG, _FLAG_WORDS, "off", field="anonymize"),
    Variable("OTEL_NOVU_QUERY_TIMEOUT", partial(_quantity, {"": 1}, 0.001, 600),
             "seconds, from 0.001 to less than 600", "5", field="query_timeout"),
    Variable("OTEL_NOVU_DELIVERY_FIGURES", _FLAG, _FLAG_WORDS, "on", field="delivery_figures"),
    Variable("OTEL_NOVU_SPOOL_MAX_AGE", partial(_quantity, _AGE, 1, 366 * 86400 + 1),
             "days, hours, minutes or seconds (7d, 12h, 30m, 90s, 90), from 1s to 366d", "7d",
             field="spool_max_age"),
    Variable("OTEL_NOVU_SPOOL_MAX_BYTES", partial(_quantity, _SIZE, 2**16, 2**40 + 1),
             "bytes, KiB, MiB or GiB (67108864, 64MiB), from 64KiB to 1024GiB", "64MiB",
             field="spool_max_bytes"),
    Variable("OTEL_METRIC_EXPORT_INTERVAL", _interval,
             "milliseconds, from 1000 to 604800000, 7 days (60 would be 0.06 s; a minute is 60000)",
             "3600000", lenient=True, field="interval"),
    Variable("OTEL_METRICS_EXPORTER", _exporters, "otlp, console, both with a comma, or none",
             "otlp", lenient=True, field="exporters"),
    *otlp.VARIABLES,
    Variable("OTEL_SDK_DISABLED", otlp.BOOLEAN, "true or false", "false", lenient=True,
             field="sdk_disabled"),
    Variable("OTEL_SERVICE_NAME", str, "a text", lenient=True),
    Variable("OTEL_RESOURCE_ATTRIBUTES", otlp.pairs, "key=value,key2=value2, percent-encoded",
             lenient=True),
    Variable("OTEL_LOG_LEVEL", otlp.words(_LEVELS), "debug, info, warn, error or fatal", "info",
             lenient=True, field="log_level"),
)
# fmt: on
_ROWS = {row.name: row for row in VARIABLES}
_NAMES = {name for row in VARIABLES for name in row.names} | {"STATE_DIRECTORY", "XDG_STATE_HOME"}


class _Environment:
    def __init__(self, texts: Mapping[str, str], warnings: list[str], unset: list[str]) -> None:
        self.texts, self.warnings, self.unset = texts, [*unset, *warnings], unset
        self.to_fix = list(_unknown(texts))

    def get(self, name: str, check: Callable[[Any], Any] = lambda value: value) -> Any:  # noqa: ANN401
        """Return what `check` makes of a variable's value; None where it has none."""
        row = _ROWS[name]
        name = next((setter for setter in row.names if setter in self.texts), name)
        text, found = self.texts.get(name, row.default), InvalidError("is not valid")
        try:
            if not text.isprintable():
                raise InvalidError("has control characters or is not UTF-8")  # noqa: TRY301
            return check(row.parse(text)) if text else None
        except InvalidError as error:
            found = error
        except OSError as error:
            found = InvalidError(f"can't be read ({error.strerror})")
        except (KeyError, ValueError):
            pass
        shown = f"'{text}' " if not row.secret and _HARMLESS.fullmatch(text) else ""
        message = f"{name}: {shown}{found}; expected {row.accepts}"
        if found.fatal or not row.lenient:
            raise SettingsError("; ".join([message, *self.unset]))
        used = row.default if found.rest is None else "the rest"
        self.to_fix.append(
            f"{message}; using {used}" if used else f"{message}; the variable is ignored"
        )
        return row.parse(row.default) if found.rest is None else found.rest


def load(
    environ: Mapping[str, str],
    *,
    env_file: Path | None = None,
    cwd: Path = Path(),
    home: Path | None = None,
    without: Collection[str] = (),
) -> Settings:
    """Read all variables but `without` from environment and .env; SettingsError: one is bad."""
    environment = _read(environ, env_file, cwd, without)
    get, texts, attributes = environment.get, environment.texts, _attributes(environment)
    name = attributes.pop("service.name", "") or "novu"
    return Settings(
        **{row.field: get(row.name) for row in VARIABLES if row.field},
        mongo_url=get("MONGO_URL")
        or get("MONGO_URL_FILE", lambda path: _mongo_url((cwd / path).read_text("utf-8-sig"))),
        state_dir=get("OTEL_NOVU_STATE_DIR", lambda path: (cwd / path).absolute())
        or _state_dir(texts, home),
        otlp=otlp.read(get, texts, cwd),
        service_name=get("OTEL_SERVICE_NAME") or name,
        resource_attributes=attributes,
        warnings=tuple(dict.fromkeys([*environment.warnings, *environment.to_fix])),
        to_fix=frozenset(environment.to_fix),
    )


def _attributes(environment: _Environment) -> dict[str, str]:
    attributes = environment.get("OTEL_RESOURCE_ATTRIBUTES") or {}
    if ours := [key for key in attributes if _RESERVED.fullmatch(key)]:
        what = f"OTEL_RESOURCE_ATTRIBUTES: {', '.join(ours)}"
        environment.warnings.append(f"{what} ignored, as otel-novu sets that itself")
    return {key: text for key, text in attributes.items() if key not in ours}


def _state_dir(texts: Mapping[str, str], home: Path | None) -> Path:
    systemd = Path(texts.get("STATE_DIRECTORY", "").partition(":")[0])
    xdg = Path(texts.get("XDG_STATE_HOME", ""))
    if not xdg.is_absolute():  # to be ignored, says the XDG Base Directory Specification
        # `~` where there is none, which state_dir.py refuses; Path.home() would raise.
        xdg = Path(home or os.path.expanduser("~"), ".local", "state")  # noqa: PTH111
    return systemd if systemd.is_absolute() else xdg / "otel-novu"


def _read(
    environ: Mapping[str, str], env_file: Path | None, cwd: Path, without: Collection[str]
) -> _Environment:
    path = cwd / (env_file or ".env")
    warnings: list[str] = []
    read: dict[str, str] = {}
    unset: list[str] = []
    if env_file is None and path.is_dir():
        warnings.append(f"{path} is not a file and is ignored")
    elif env_file is not None or os.path.lexists(path):
        read, unset = _read_file(path, environ)
    real, file = (_clean(source, warnings, without) for source in (environ, read))
    if real.keys() >= MONGO or file.keys() >= MONGO:
        raise SettingsError("MONGO_URL: is set together with MONGO_URL_FILE; expected one of them")
    if MONGO & real.keys():
        file = {name: text for name, text in file.items() if name not in MONGO}
    texts = {**file, **real}
    idle = sorted(texts.keys() & _NO_EFFECT.keys())
    warnings += [f"{name} has no effect: {_NO_EFFECT[name]}" for name in idle]
    return _Environment(texts, warnings, unset)


def _read_file(path: Path, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    try:
        read, lines = dotenv.read(path, environ)
    except OSError as error:
        raise SettingsError(f"{path}: can't be read ({error.strerror}); expected a file") from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}; expected lines such as NAME=value") from None
    why = "uses a $NAME that is not set (write a literal $ as $$)"
    return read, [f"{path} line {line} {why}" for line in lines]


def _clean(
    source: Mapping[str, str], warnings: list[str], without: Collection[str]
) -> dict[str, str]:
    """Return the texts that are not empty, without the white space and quotes around them."""
    cleaned = {name: text.strip() for name, text in source.items() if name not in without}
    for name in sorted(cleaned.keys() & _NAMES):
        while quoted := _QUOTED.fullmatch(cleaned[name]):
            cleaned[name] = quoted[2].strip()
            warnings.append(f"{name}: the quotes around the value are removed")
    return {name: text for name, text in cleaned.items() if text}


def _unknown(texts: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(texts.keys() - _NAMES):
        if _OTHERS.fullmatch(name):
            continue
        ours = name.startswith("OTEL_NOVU_")
        # A slip of a letter is closer than 0.95, the same variable of another signal is not.
        close = get_close_matches(name, _NAMES, n=1, cutoff=0.8 if ours else 0.95)
        # A misspelt opt-out must not be ignored silently.
        opt_out = get_close_matches(name.upper(), ["NOVU_TELEMETRY"], cutoff=0.85)
        if opt_out or name.startswith("NOVU_TELEMETRY"):
            close = ["NOVU_TELEMETRY"]
        if ours or close:
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"{ascii(name)[1:-1]} is not a variable of otel-novu and is ignored{hint}"
