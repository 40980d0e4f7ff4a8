"""A Docker engine for the tests: the machine's, if it can pull images, else one of our own.

Our own runs Debian's packages from a folder in the cache. It sees that folder as its /usr, has its
own bridge, and leaves the firewall of the machine alone. Where no registry answers, it gets
stand-ins under the names of the real images: `stand_ins/Dockerfile`.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from stack_build import (
    StackError,
    binaries,
    build_debian,
    launch_command,
)
from stack_cache import locked
from stack_servers import Server

STAND_INS = Path(__file__).parent / "stand_ins"
# The newest stable Debian: the first that packages compose v2 and buildx.
SUITES = ("trixie",)
ENGINE = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "iptables", "iproute2")
PYTHON = ("python3", "python3-pip", "python3-venv", "ca-certificates")
BRIDGE, GATEWAY, POOL = "otel-novu0", "10.213.0.1", "base=10.213.64.0/18,size=24"
DATABASE_PORT = 27017  # on the gateway; the stand-in of MongoDB forwards to it
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# In a mount namespace of its own; /etc/alternatives has the links to iptables.
_START = """
for folder in /etc/alternatives /usr; do
  [ ! -d $folder ] || mount --bind "$0$folder" $folder || exit
done
exec dockerd "$@"
"""


@dataclass(frozen=True)
class Docker:
    """The command line of an engine; `prefix` goes before `docker`."""

    prefix: Sequence[str] = ()
    environ: Mapping[str, str] | None = None

    def __call__(
        self, *words: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker`; an AssertionError shows the output of a command that fails."""
        done = subprocess.run(
            self.command(*words),
            env={**(self.environ or os.environ), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done

    def command(self, *words: str) -> list[str]:
        """The command line."""
        return [*self.prefix, "docker", *words]

    def inspect(self, form: str, name: str) -> str:
        """One property of an image, a container or a network."""
        return self("inspect", "--format", form, name).stdout.strip()

    @property
    def gateway(self) -> str:
        """The host's address on the default bridge, which `host-gateway` means."""
        return self.inspect("{{(index .IPAM.Config 0).Gateway}}", "bridge")

    def has(self, image: str) -> bool:
        """Whether the image is there, or can be pulled."""
        found = self("image", "inspect", image, check=False).returncode == 0
        return found or self("pull", "--quiet", image, check=False).returncode == 0


@dataclass
class Engine(Server):
    """Debian's dockerd; images stay in the cache."""

    _: KW_ONLY
    root: Path

    @property
    def docker(self) -> Docker:
        """Its command line, in the same mount namespace."""
        environ = {"PATH": "/usr/sbin:/usr/bin", "HOME": str(self.folder)}
        environ["DOCKER_HOST"] = f"unix://{self.folder}/docker.sock"
        nsenter = shutil.which("nsenter") or "nsenter"
        return Docker((nsenter, f"--target={self.processes[0].pid}", "--mount"), environ)

    def launch(self) -> None:
        """Make the bridge and start dockerd."""
        self._ip("link", "del", BRIDGE, check=False)  # of a killed run
        self._ip("link", "add", BRIDGE, "type", "bridge")
        self._ip("address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        self._ip("link", "set", BRIDGE, "up")
        options = {
            "data-root": self.root.parent / "data",
            "exec-root": self.folder / "exec",
            "pidfile": self.folder / "pid",
            "host": f"unix://{self.folder}/docker.sock",
            "config-file": self.folder / "none.json",
            "bridge": BRIDGE,
            "default-address-pool": POOL,
            "iptables": "false",
            "ip6tables": "false",
            "ip-forward": "false",
        }
        (self.folder / "none.json").write_text("{}")
        words = [f"--{name}={value}" for name, value in options.items()]
        command = ["/usr/bin/unshare", "--mount", "sh", "-c", _START, str(self.root), *words]
        self.spawn(command, {"PATH": "/usr/sbin:/usr/bin"}, death_signal=signal.SIGTERM)

    def ready(self) -> bool:
        """Whether it answers."""
        return self.docker("info", check=False).returncode == 0

    def close(self) -> None:
        """Remove containers, volumes and old build steps, stop it, and remove the bridge."""
        if self.alive():
            if running := self.docker("ps", "--all", "--quiet").stdout.split():
                self.docker("rm", "--force", "--volumes", *running)
            self.docker("volume", "prune", "--all", "--force")
            self.docker("image", "prune", "--force")
            self.docker("builder", "prune", "--force", "--keep-storage=1GB")
        super().close()
        self._ip("link", "del", BRIDGE, check=False)

    def _ip(self, *words: str, check: bool = True) -> None:
        chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        command = [chroot, str(self.root), "ip", *words]
        subprocess.run(command, capture_output=True, check=check)


@contextmanager
def engine(base: str, progress: Callable[[str], None] = print) -> Iterator[Docker]:
    """Yield an engine that has the image `base`: the machine's, else our own.

    Raises:
        StackError: neither is to be had; the message says why.
    """
    given = Docker()
    if shutil.which("docker") and given("compose", "version", check=False).returncode == 0:
        if given("info", check=False).returncode == 0 and given.has(base):
            yield given
            return
        progress("the machine's container engine does not run or pulls no images")
    _can_start()
    root = build_debian("engine", SUITES, ENGINE, progress)
    with locked("engine", progress), Engine(binaries=binaries(), root=root) as started:
        if not started.docker.has(base):
            _import_python(started.docker, base, progress)
        yield started.docker


def provide(docker: Docker, image: str, base: str) -> None:
    """Make an image usable: it is there, can be pulled, or gets a stand-in in our own engine."""
    if docker.has(image):
        return
    if not docker.prefix:
        raise StackError(f"The machine's container engine can't pull {image}.")
    target = image.rpartition("/")[2].partition(":")[0]
    parts = binaries()
    arguments = {"PYTHON": base, "UPSTREAM": f"{GATEWAY}:{DATABASE_PORT}"}
    folders = {"prometheus": parts.prometheus.parent, "collector": parts.collector.parent}
    words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    words += [f"--build-context=native-{name}={folder}" for name, folder in folders.items()]
    docker("build", f"--target={target}", f"--tag={image}", *words, str(STAND_INS))


@contextmanager
def forwarded(listen: str, target: str) -> Iterator[None]:
    """Forward connections from an address of the machine to another one."""
    command = [sys.executable, str(STAND_INS / "forward.py"), listen, target]
    with subprocess.Popen(launch_command(command, death_signal=signal.SIGKILL)) as process:
        try:
            yield
        finally:
            process.kill()


def _can_start() -> None:
    if os.geteuid() != 0:
        raise StackError("No container engine runs that can pull images; starting one needs root.")
    if not Path("/bin").is_symlink():
        raise StackError("Starting a container engine needs a system whose /bin is in /usr.")


def _import_python(docker: Docker, base: str, progress: Callable[[str], None]) -> None:
    """Import Debian's Python under the name of the official image."""
    root = build_debian("python", SUITES, PYTHON, progress)
    shutil.copyfile(CERTIFICATES, root / str(CERTIFICATES)[1:])  # the machine's own, for pip
    link = root / "usr/bin/python"
    if not link.is_symlink():
        link.symlink_to("python3")
    tar = ["tar", "-C", str(root), "--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists"]
    change = ["--change", 'CMD ["python3"]']
    with subprocess.Popen([*tar, "-c", "."], stdout=subprocess.PIPE) as packed:
        command = docker.command("import", *change, "-", base)
        env, out = docker.environ, subprocess.DEVNULL
        subprocess.run(command, env=env, stdin=packed.stdout, stdout=out, check=True)
