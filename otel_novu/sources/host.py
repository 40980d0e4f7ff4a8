"""The door to the machine that the exporter runs on: its memory, name, address and system."""

import platform
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from otel_novu.metrics.beacon import Host

# Novu looks at these interfaces, in this order, and at no other.
_INTERFACES = ("eth0", "en0")

# TEST-NET-1 (RFC 5737): nobody's address, so that only a default route leads there. Connecting
# a UDP socket chooses the route and sends nothing.
_ANYWHERE = ("192.0.2.1", 9)

# `sys.platform` begins with the key; the values are OpenTelemetry's for `os.type`
# (semantic conventions 1.44, registry/attributes/os).
_OS_TYPES = {
    "linux": "linux",
    "darwin": "darwin",
    "win": "windows",
    "cygwin": "windows",
    "msys": "windows",
    "freebsd": "freebsd",
    "netbsd": "netbsd",
    "openbsd": "openbsd",
    "dragonfly": "dragonflybsd",
    "hp-ux": "hpux",
    "aix": "aix",
    "sunos": "solaris",
    "zos": "zos",
}


def read_host() -> Host:
    """Read the machine now: no name is resolved, no packet is sent, nothing waits.

    What can't be read is absent (None), so that the beacon goes out with the rest.
    """
    free, total = _read_memory()
    return Host(
        memory_free=free,
        memory_total=total,
        name=_encodable(socket.gethostname()),
        ip=choose_ip(_read_addresses(), _read_route()),
        os_type=os_type(sys.platform),
        os_version=_encodable(platform.release()),
    )


def choose_ip(addresses: Mapping[str, Sequence[str]], route: str | None) -> str | None:
    """Choose the address that tells the machine: of eth0, else of en0, else of the default route.

    Addresses of the loopback and those that a machine gave itself (169.254/16) are passed over:
    nobody finds it there. A container on AWS Fargate, for one, has such an address on eth0 and
    its own on eth1.

    Args:
        addresses: by name of the interface, its IPv4 addresses in the system's order.
        route: the IPv4 address from which a packet to anywhere would leave, or None.

    Returns:
        The IPv4 address, or None where there is none.
    """
    candidates = [address for name in _INTERFACES for address in addresses.get(name, ())]
    if route is not None:
        candidates.append(route)
    return next(filter(_is_external, candidates), None)


def os_type(system: str) -> str:
    """Translate a name of `sys.platform` into OpenTelemetry's value of `os.type`.

    Returns:
        One of the well-known values, else the name itself.
    """
    return next((value for key, value in _OS_TYPES.items() if system.startswith(key)), system)


def _is_external(address: str) -> bool:
    parsed = IPv4Address(address)
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified)


def _read_memory() -> tuple[int | None, int | None]:
    import psutil  # noqa: PLC0415 - the door to psutil, opened only when it is used

    try:
        memory = psutil.virtual_memory()
    except Exception:  # noqa: BLE001 - it parses what the system says; no fault may cost the beacon
        return None, None
    return memory.available, memory.total


def _read_addresses() -> Mapping[str, Sequence[str]]:
    """Read the IPv4 addresses of the interfaces that run, as Novu's `os.networkInterfaces()`."""
    import psutil  # noqa: PLC0415 - as above

    try:
        found = psutil.net_if_addrs()
    except Exception:  # noqa: BLE001 - as above
        return {}
    return {
        name: [entry.address for entry in found[name] if entry.family == socket.AF_INET]
        for name in _running(found)
    }


def _running(names: Iterable[str]) -> Iterable[str]:
    import psutil  # noqa: PLC0415 - as above

    try:
        stats = psutil.net_if_stats()
    except Exception:  # noqa: BLE001 - it asks the drivers too, which some sandboxes forbid
        return names
    return [name for name in names if name in stats and stats[name].isup]


def _read_route() -> str | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_ANYWHERE)
            return str(probe.getsockname()[0])
    except OSError:  # no route, no IPv4, or no permission
        return None


def _encodable(text: str) -> str:
    """Replace bytes of a name that are no UTF-8: protobuf carries none."""
    return text.encode(errors="replace").decode()
