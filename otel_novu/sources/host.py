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

import psutil

from otel_novu.metrics.beacon import Host

# The only interfaces that Novu looks at, in its order.
_INTERFACES = ("eth0", "en0")
# TEST-NET-1 (RFC 5737) belongs to nobody, so only a default route leads there. Connecting a UDP
# socket selects the route and sends nothing.
_ANYWHERE = ("192.0.2.1", 9)
# OpenTelemetry's `os.type`, where it is not what `sys.platform` begins with.
_OS_TYPES = dict.fromkeys(("win", "cygwin", "msys"), "windows")
_OS_TYPES |= {"dragonfly": "dragonflybsd", "hp-ux": "hpux", "sunos": "solaris"}


def read_host() -> Host:
    """Read the machine; no name is resolved and no packet is sent."""
    free, total = _memory()
    return Host(
        memory_free=free,
        memory_total=total,
        name=_encodable(socket.gethostname()),
        ip=choose_ip(_addresses(), _route()),
        os_type=os_type(sys.platform),
        os_version=_encodable(platform.release()),
    )


def pseudonymize(host: Host, key: bytes) -> Host:
    """Replace name and address by keyed hashes: the first 128 bits of HMAC-SHA256, as hex."""

    def pseudonym(text: str) -> str:
        return hmac.digest(key, text.encode(), "sha256").hex()[:32]

    return replace(host, name=pseudonym(host.name), ip=pseudonym(host.ip) if host.ip else None)


def choose_ip(addresses: Mapping[str, Sequence[str]], route: str | None) -> str | None:
    """Choose the first external IPv4 address of eth0, else of en0, else of the default route."""
    candidates = [address for name in _INTERFACES for address in addresses.get(name, ())]
    return next(filter(_is_external, [*candidates, *([route] if route else [])]), None)


def os_type(system: str) -> str:
    """Translate a value of `sys.platform` into OpenTelemetry's `os.type`."""
    name = re.sub("[0-9].*", "", system)
    return _OS_TYPES.get(name, name)


def _is_external(address: str) -> bool:
    # Link-local: on AWS Fargate eth0 has such an address, and eth1 the container's own one.
    ip = IPv4Address(address)
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified)


def _memory() -> tuple[int | None, int | None]:
    try:
        memory = psutil.virtual_memory()
    except Exception:  # noqa: BLE001 - it parses /proc; the rest of the beacon is still sent
        return None, None
    return memory.available, memory.total


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


def _route() -> str | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_ANYWHERE)
            return str(probe.getsockname()[0])
    except OSError:  # no route, no IPv4, or no permission
        return None


def _encodable(text: str) -> str:
    """Replace bytes that are not UTF-8: protobuf can't carry them."""
    return text.encode(errors="replace").decode()
