"""Builds the native servers once, into a cache outside the checkout.

For machines without a Docker engine: FerretDB (MongoDB's protocol) on PostgreSQL with the
DocumentDB extension, the OpenTelemetry Collector by its official builder, and Prometheus.
PostgreSQL and Prometheus are packages of a newer Debian, in a chroot.

Each part has a folder named by version and recipe. It is built elsewhere and renamed when complete,
so an interrupted build starts again and a finished part is reused.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stack_cache import Progress, cache_dir, locked, remove_tree, short_hash

HERE = Path(__file__).resolve().parent
BUILDER_MANIFEST = HERE / "builder.yaml"

FERRETDB_VERSION = "v2.7.0"
PROMETHEUS_VERSION = "v0.316.0"  # of the Go module; the release is 3.16.0

# The first Debian with the DocumentDB extension is forky. Its packages change until its release, so
# packages.txt records the versions; sid has them too, in case forky lacks one.
SUITES = ("forky", "sid")
POSTGRES_BIN = "/usr/lib/postgresql/18/bin/"
DEBIAN_PACKAGES = ("postgresql-18-documentdb", "prometheus")
SECONDS = {"debian": 60, "ferretdb": 60, "collector": 180, "prometheus": 180, "actionlint": 30}

# Test data need not survive a power cut. DocumentDB counts a collection by PostgreSQL's row
# statistics, and exactly where there are none. Other sessions update these up to ten seconds late,
# even after an ANALYZE, which doubles the count. So track_counts is off: a count is exact until
# `Database.analyze` freezes it. A copy listens elsewhere than the template: pg_cron uses workers.
POSTGRES_SETTINGS = """
listen_addresses = ''
shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'
cron.database_name = 'postgres'
cron.use_background_workers = on
cron.log_run = off
cron.log_statement = off
log_min_messages = fatal
max_worker_processes = 32
max_connections = 200
autovacuum = off
track_counts = off
fsync = off
full_page_writes = off
synchronous_commit = off
max_wal_size = 4GB
shared_buffers = 256MB
"""
# FerretDB's users are PostgreSQL's roles; this is the login of Novu's example .env.
TEMPLATE_SQL = """
CREATE EXTENSION documentdb CASCADE;
CREATE ROLE root LOGIN SUPERUSER PASSWORD 'secret';
"""
CHROOT_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "TZ": "UTC"}  # noqa: S108
CHROOT_ENVIRONMENT |= {"FERRETDB_TELEMETRY": "disable"}
_CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"


class StackError(Exception):
    """One sentence for the user; it names the log file where there is one."""


@dataclass(frozen=True)
class Binaries:
    """Paths of the built parts."""

    ferretdb: Path
    collector: Path
    chroot: Path

    @property
    def template(self) -> Path:
        """A stopped database; every instance is a copy of it."""
        return self.chroot / "srv" / f"template-{short_hash(POSTGRES_SETTINGS + TEMPLATE_SQL)}"

    @property
    def prometheus(self) -> Path:
        """Debian's Prometheus; it runs outside the chroot too, as it needs only libc."""
        return self.chroot / "usr/bin/prometheus"

    @property
    def promtool(self) -> Path:
        """Prometheus' own checker."""
        return self.chroot / "usr/bin/promtool"


def collector_version() -> str:
    """The version in the builder's manifest."""
    return BUILDER_MANIFEST.read_text().partition("\n  version: ")[2].split()[0]


def binaries() -> Binaries:
    """Where the parts are, or will be."""
    cache = cache_dir()
    collector = f"collector-{collector_version()}-{short_hash(BUILDER_MANIFEST.read_text())}"
    return Binaries(
        ferretdb=cache / f"ferretdb-{FERRETDB_VERSION}" / "ferretdb",
        collector=cache / collector / "otelcol",
        chroot=cache / f"debian-{short_hash(repr((SUITES, DEBIAN_PACKAGES)))}" / "root",
    )


def build(progress: Progress = print) -> Binaries:
    """Build what is missing; about five minutes the first time."""
    if platform.system() != "Linux":
        raise StackError("The native servers need Linux; start Docker, or set TEST_MONGO_URL etc.")
    parts = binaries()
    if not all(path.exists() for path in (parts.template, parts.ferretdb, parts.collector)):
        with locked("build", progress) as lock:
            _build_missing(progress, parts, lock)
    return parts


def build_debian(
    name: str, suites: Sequence[str], packages: Sequence[str], progress: Progress = print
) -> Path:
    """The folder of a Debian system with these packages; built if it is missing."""
    root = cache_dir() / f"{name}-{short_hash(repr((suites, packages)))}" / "root"
    return build_part("debian", root, _debian(suites, packages), progress)


def _debian(suites: Sequence[str], packages: Sequence[str]) -> dict[str, str]:
    return {"SUITES": " ".join(suites), "PACKAGES": ",".join(packages)}


def build_prometheus(progress: Progress = print) -> Path:
    """A Prometheus with an OTLP receiver, which Debian's is built without."""
    path = cache_dir() / f"prometheus-{PROMETHEUS_VERSION}" / "prometheus"
    return build_part("prometheus", path, {"VERSION": PROMETHEUS_VERSION}, progress)


def build_part(
    part: str, path: Path, variables: dict[str, str], progress: Progress = print
) -> Path:
    """Build one part of `build.sh`, unless `path` exists; returns it."""
    if not path.exists():
        with locked("build", progress) as lock:
            _build_part(part, path, progress, lock, variables)
            remove_tree(cache_dir() / "work")
    return path


def _build_missing(progress: Progress, parts: Binaries, lock: int) -> None:
    for part, path, variables in (
        ("debian", parts.chroot, _debian(SUITES, DEBIAN_PACKAGES)),
        ("ferretdb", parts.ferretdb, {"VERSION": FERRETDB_VERSION}),
        ("collector", parts.collector, {"VERSION": collector_version()}),
    ):
        _build_part(part, path, progress, lock, variables)
    if not parts.template.exists():
        _make_template(parts)
    remove_tree(cache_dir() / "work")


def _build_part(
    part: str, path: Path, progress: Progress, lock: int, variables: dict[str, str]
) -> None:
    if path.exists():
        return
    into = cache_dir() / "work" / path.parent.name.partition("-")[0]
    if part == "debian":
        need_root(f"Building the {into.name} system")
    progress(f"building {into.name} (about {SECONDS[part]} s)")
    remove_tree(into)
    into.mkdir(parents=True)
    command, log = [str(HERE / "build.sh"), part, str(into)], cache_dir() / f"{into.name}.log"
    env = {**os.environ, "PYTHON": sys.executable, **variables}
    with log.open("wb") as out:
        # If this process is killed, the next build waits for the command, which has the lock.
        done = subprocess.run(
            command, env=env, stdout=out, stderr=out, pass_fds=[lock], check=False
        )
    if done.returncode:
        raise StackError(f"Building {into.name} failed; see {log}")
    into.rename(path.parent)


def need_root(what: str) -> None:
    """Raise a StackError unless this is root."""
    if os.geteuid() != 0:
        raise StackError(
            f"{what} needs root; run this as root, start Docker, or set TEST_MONGO_URL, "
            "TEST_OTLP_HTTP, TEST_OTLP_GRPC and TEST_PROMETHEUS."
        )


# --- in the chroot -------------------------------------------------------------------------------


def launch_command(
    command: Sequence[str], *, folder: str = "/", root: Path | None = None, death_signal: int = 0
) -> list[str]:
    """The command line that runs `command` in a folder, or in the chroot as user postgres.

    With a death signal the kernel sends that when the starting thread ends. Changing the user would
    clear it (prctl(2)), so `setpriv` comes last.
    """
    place = ["/usr/bin/env", f"--chdir={folder}"]
    if root:
        place = [_CHROOT, "--userspec=postgres:postgres", str(root)]
    name = signal.Signals(death_signal).name[3:] if death_signal else ""
    tie = ["/usr/bin/setpriv", "--pdeathsig", name] if death_signal else []
    return [*place, *tie, *command]


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL in the chroot, in its own folder below /srv."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """Its folder as seen from outside."""
        return self.root / "srv" / self.name

    def create_folder(self) -> None:
        """Make the folder, empty, owned by user postgres and closed to others."""
        remove_tree(self.folder)
        command = ["install", "-d", "-m", "700", "-o", "postgres", f"/srv/{self.name}"]
        subprocess.run([_CHROOT, str(self.root), *command], env=CHROOT_ENVIRONMENT, check=True)

    def command(self, program: str, *arguments: str) -> list[str]:
        """A command line of one of PostgreSQL's programs on this data."""
        return [POSTGRES_BIN + program, "-D", f"/srv/{self.name}/data", *arguments]

    def options(self) -> list[str]:
        """Where it listens: on a socket in its folder, never on TCP.

        DocumentDB connects back to its server to create a collection, by default over TCP.
        """
        loop = f"documentdb.localhost_connection_string=host=/srv/{self.name}"
        return ["-c", f"unix_socket_directories=/srv/{self.name}", "-c", loop]

    def sql(self, text: str) -> str:
        """Run SQL; returns bare rows, fields split by `|`."""
        command = [POSTGRES_BIN + "psql", "-h", f"/srv/{self.name}", "-U", "postgres"]
        return self.run([*command, "-XqAt", "-v", "ON_ERROR_STOP=1"], text)

    def run(self, command: Sequence[str], text: str = "") -> str:
        """Run a command as user postgres; returns its output."""
        line, env = launch_command(command, root=self.root), CHROOT_ENVIRONMENT
        done = subprocess.run(
            line, input=text, capture_output=True, text=True, env=env, check=False
        )
        if done.returncode:
            raise StackError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
        return done.stdout


def _make_template(parts: Binaries) -> None:
    made = Postgres(parts.chroot, "template-making")
    made.create_folder()
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    made.run(made.command("initdb", *options))
    with (made.folder / "data/postgresql.conf").open("a") as settings:
        settings.write(POSTGRES_SETTINGS)
    log = ["-l", f"/srv/{made.name}/log"]
    try:
        made.run(made.command("pg_ctl", *log, "-w", "-o", " ".join(made.options()), "start"))
        made.sql(TEMPLATE_SQL)
        made.run(made.command("pg_ctl", "-m", "fast", "stop"))
    except StackError as error:
        raise StackError(f"Making the database failed: {error}; see {made.folder}/log") from error
    made.folder.rename(parts.template)
