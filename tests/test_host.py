import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import pytest

from otel_novu.metrics.beacon import BEACON, BeaconReading, Host
from otel_novu.sources.host import choose_ip, os_type, read_host

LAN = "198.51.100.7"
OTHER_LAN = "203.0.113.7"

# Without root, a user namespace gives the rights that a network namespace needs.
UNSHARE = ["unshare"] if os.geteuid() == 0 else ["unshare", "--map-root-user"]

READ = """
import dataclasses, json, psutil
from otel_novu.sources.host import read_host
def sent(): return sum(nic.packets_sent for nic in psutil.net_io_counters(pernic=True).values())
before = sent()
host = dataclasses.asdict(read_host())
print(json.dumps({"host": host, "sent": sent() - before}))
"""
READ_HOST = """
import dataclasses, json
from otel_novu.sources.host import read_host
print(json.dumps(dataclasses.asdict(read_host())))
"""
SILENCE_IPV6 = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 || true"
ONLY_LO = [SILENCE_IPV6, "ip link set lo up"]


def interface(name: str, address: str, state: str = "up") -> list[str]:
    peer = f"to-{name}"
    return [
        f"ip link add {name} type veth peer name {peer}",
        f"ip address add {address}/24 dev {name}",
        f"ip link set {peer} up",
        f"ip link set {name} {state}",
    ]


def read_within(namespaces: Sequence[str], setup: Sequence[str], program: str) -> Any:
    script = " && ".join([*setup, 'exec "$@"'])
    command = [*UNSHARE, *namespaces, "sh", "-c", script, "sh", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ip_in_network(setup: Sequence[str]) -> Any:
    answer = read_within(["--net"], setup, READ)
    assert answer["sent"] == 0, "reading the host sent a packet"
    return answer["host"]["ip"]


@pytest.mark.parametrize(
    ("addresses", "route", "chosen"),
    [
        ({}, None, None),
        ({"lo": ["127.0.0.1"]}, None, None),
        ({"lo": ["127.0.0.1"]}, "127.0.0.1", None),
        ({}, LAN, LAN),
        ({"eth0": [LAN]}, OTHER_LAN, LAN),
        ({"eth0": ["127.0.0.2", LAN, OTHER_LAN]}, None, LAN),
        ({"en0": [LAN]}, OTHER_LAN, LAN),
        ({"en0": [OTHER_LAN], "eth0": [LAN]}, None, LAN),
        ({"eth0": [], "en0": [LAN]}, None, LAN),
        ({"eth1": [LAN]}, None, None),
        ({"eth1": [LAN], "wlan0": [OTHER_LAN]}, OTHER_LAN, OTHER_LAN),
        ({"eth0": ["169.254.172.2"], "eth1": [LAN]}, LAN, LAN),
        ({"eth0": ["169.254.172.2"]}, None, None),
        ({}, "169.254.1.1", None),
        ({}, "0.0.0.0", None),
        ({"eth0": ["10.1.2.3"]}, None, "10.1.2.3"),
    ],
)
def test_the_address_is_that_of_eth0_then_en0_then_the_default_route(
    addresses: Mapping[str, Sequence[str]], route: str | None, chosen: str | None
) -> None:
    assert choose_ip(addresses, route) == chosen


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("linux", "linux"),
        ("darwin", "darwin"),
        ("win32", "windows"),
        ("cygwin", "windows"),
        ("freebsd14", "freebsd"),
        ("netbsd10", "netbsd"),
        ("openbsd7", "openbsd"),
        ("dragonfly6", "dragonflybsd"),
        ("hp-ux11", "hpux"),
        ("aix", "aix"),
        ("sunos5", "solaris"),
        ("zos", "zos"),
        ("haiku1", "haiku1"),
    ],
)
def test_os_type_has_the_values_of_opentelemetry(system: str, expected: str) -> None:
    assert os_type(system) == expected


def test_this_machine_is_read_as_it_is() -> None:
    host = read_host()
    assert host.memory_total == psutil.virtual_memory().total
    assert host.memory_free is not None
    assert 0 < host.memory_free <= host.memory_total
    assert host.name == socket.gethostname()
    assert host.os_type == os_type(sys.platform)
    assert host.os_version == platform.release()


def test_without_a_network_there_is_no_address() -> None:
    assert ip_in_network([SILENCE_IPV6]) is None


def test_with_the_loopback_alone_there_is_no_address() -> None:
    assert ip_in_network(ONLY_LO) is None


def test_an_address_beside_127_on_the_loopback_is_internal_too() -> None:
    setup = [*ONLY_LO, f"ip address add {LAN}/32 dev lo"]
    assert ip_in_network(setup) is None


@pytest.mark.parametrize("name", ["eth0", "en0"])
def test_an_interface_that_novu_looks_at_gives_the_address_without_a_route(name: str) -> None:
    assert ip_in_network([*ONLY_LO, *interface(name, LAN)]) == LAN


def test_eth0_beats_en0_and_the_default_route() -> None:
    setup = [*ONLY_LO, *interface("en0", OTHER_LAN), *interface("eth0", LAN)]
    assert ip_in_network([*setup, "ip route add default via 203.0.113.1"]) == LAN


def test_an_interface_of_another_name_gives_the_address_by_its_default_route() -> None:
    setup = [*ONLY_LO, *interface("wan7", LAN), "ip route add default via 198.51.100.1"]
    assert ip_in_network(setup) == LAN


def test_an_interface_of_another_name_without_a_default_route_gives_none() -> None:
    assert ip_in_network([*ONLY_LO, *interface("wan7", LAN)]) is None


def test_an_interface_that_is_down_gives_no_address() -> None:
    assert ip_in_network([*ONLY_LO, *interface("eth0", LAN, state="down")]) is None


def test_a_link_local_address_yields_to_that_of_the_default_route() -> None:
    setup = [*ONLY_LO, *interface("eth0", "169.254.172.2"), *interface("eth1", LAN)]
    assert ip_in_network([*setup, "ip route add default via 198.51.100.1"]) == LAN


def test_memory_that_can_not_be_read_is_absent_and_the_rest_of_the_beacon_stays() -> None:
    document = read_within(["--mount"], ["mount -t tmpfs none /proc"], READ_HOST)
    assert document["name"] == socket.gethostname()
    beacon = BeaconReading(timestamp=1.0, host=Host(**document), usage_enabled=True)
    present = {row.name for row in BEACON if list(row.read(beacon))}
    assert {"novu.host.info", "novu.beacon.timestamp", "novu.usage.enabled"} <= present
    assert not {"novu.host.memory.free", "novu.host.memory.total"} & present


def test_a_host_name_that_is_no_text_can_still_be_encoded() -> None:
    program = 'import socket; socket.sethostname(b"a\\xffb")\n' + READ_HOST
    document = read_within(["--uts"], ["true"], program)
    assert document["name"] == "a?b"
