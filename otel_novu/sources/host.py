"""The machine that the exporter runs on: memory, name, address, system."""

import hmac
import platform
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import psutil

from otel_novu.metrics.beacon import Host


def read_host(key: bytes | None = None) -> Host:
    """Read the machine, with pseudonyms if there is a key; no name is resolved, nothing is sent."""
    free = total = route = None
    with suppress(Exception):  # /proc is parsed; the rest of the beacon is still sent
        free, total = _memory()
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # TEST-NET-1 (RFC 5737) belongs to nobody, so only a default route leads there. Connecting
        # a UDP socket selects the route and sends nothing.
        probe.connect(("192.0.2.1", 9))
        route = probe.getsockname()[0]
    # What is not UTF-8 is replaced: protobuf can't carry it.
    name, version = (
        text.encode(errors="replace").decode()
        for text in (socket.gethostname(), platform.release())
    )
    ip = choose_ip(_addresses(), route)
    host = Host(free, total, name, ip, os_type(sys.platform), version)
    return host if key is None else pseudonymize(host, key)


def pseudonymize(host: Host, key: bytes) -> Host:
    """Replace name and address by keyed hashes: the first 128 bits of HMAC-SHA256, as hex."""

    def pseudonym(text: str) -> str:
        return hmac.digest(key, text.encode(), "sha256").hex()[:32]

    return replace(host, name=pseudonym(host.name), ip=pseudonym(host.ip) if host.ip else None)


def choose_ip(addresses: Mapping[str, Sequence[str]], route: str | None) -> str | None:
    """Choose the first external IPv4 address of eth0, else en0, as Novu does, else of the route."""
    for address in (*addresses.get("eth0", ()), *addresses.get("en0", ()), route or "127.0.0.1"):
        ip = IPv4Address(address)
        # Link-local: on AWS Fargate eth0 has such an address, and eth1 the container's own one.
        if not (ip.is_loopback or ip.is_link_local or ip.is_unspecified):
            return address
    return None


def os_type(system: str) -> str:
    """Translate a value of `sys.platform` into OpenTelemetry's `os.type`."""
    name = re.sub("[0-9].*", "", system)
    return {"win": "windows", "cygwin": "windows", "sunos": "solaris"}.get(name, name)


def _memory() -> tuple[int | None, int | None]:
    """Return the memory that is available and all there is, in bytes; None: not known."""
    if psutil.LINUX:
        # psutil guesses what some containers lack or have below 0, and warns on stderr.
        text = Path(psutil.PROCFS_PATH, "meminfo").read_text()
        sizes = {key: int(size) * 1024 for key, size in re.findall(r"(\w+): +(\d+) kB", text)}
        free, total = sizes.get("MemAvailable", 0), sizes.get("MemTotal", 0)
    else:
        memory = psutil.virtual_memory()
        free, total = memory.available, memory.total
    return free if 0 < free <= total else None, total or None


def _addresses() -> Mapping[str, Sequence[str]]:
    """Read the IPv4 addresses of the interfaces that are up, as `os.networkInterfaces()` does."""
    found = {}
    with suppress(Exception):  # as above
        found = psutil.net_if_addrs()
        # Some sandboxes forbid this one, which asks the drivers.
        stats = psutil.net_if_stats()
        found = {name: found[name] for name in found if name in stats and stats[name].isup}
    return {
        name: [entry.address for entry in entries if entry.family == socket.AF_INET]
        for name, entries in found.items()
    }
