"""What is read of the machine, in network namespaces of the tests' own."""

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from otel_novu.metrics.beacon import Host
from otel_novu.sources.host import choose_ip, os_type, pseudonymize, read_host

LAN, OTHER = "198.51.100.7", "203.0.113.7"
UNSHARE = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"])]
READ = """
import dataclasses, json, os, psutil
from otel_novu.sources.host import read_host
def sent(): return sum(nic.packets_sent for nic in psutil.net_io_counters(pernic=True).values())
sent = sent if os.path.exists("/proc/net") else int
before = sent()
print(json.dumps({**dataclasses.asdict(read_host()), "sent": sent() - before}))
"""
ONLY_LO = ["echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 || true", "ip link set lo up"]


def interface(name: str, address: str, state: str = "up") -> list[str]:
    link = [f"ip link add {name} type veth peer name to-{name}", f"ip link set to-{name} up"]
    return [*link, f"ip address add {address}/24 dev {name}", f"ip link set {name} {state}"]


def read_in(namespace: str, setup: Sequence[str], before: str = "") -> Any:
    script = " && ".join([*setup, 'exec "$@"'])
    command = [*UNSHARE, namespace, "sh", "-c", script, "sh", sys.executable, "-c", before + READ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("addresses", "route", "chosen"),
    [
        ({}, None, None),
        ({"lo": ["127.0.0.1"]}, "127.0.0.1", None),
        ({"eth0": ["127.0.0.2", LAN, OTHER]}, OTHER, LAN),
        ({"en0": [OTHER], "eth0": [LAN]}, None, LAN),
        ({"eth1": [LAN], "wlan0": [OTHER]}, OTHER, OTHER),
        ({"eth0": ["169.254.172.2"], "eth1": [LAN]}, LAN, LAN),  # AWS Fargate
        ({"eth0": ["169.254.172.2"]}, "0.0.0.0", None),
    ],
)
def test_the_address_is_that_of_eth0_then_en0_then_the_default_route(
    addresses: Mapping[str, Sequence[str]], route: str | None, chosen: str | None
) -> None:
    assert choose_ip(addresses, route) == chosen


@pytest.mark.parametrize(
    ("setup", "ip"),
    [
        ([], None),
        ([*ONLY_LO, f"ip address add {LAN}/32 dev lo"], None),
        ([*ONLY_LO, *interface("eth0", LAN)], LAN),
        ([*ONLY_LO, *interface("eth0", LAN, "down")], None),
        ([*ONLY_LO, *interface("wan7", LAN)], None),
        ([*ONLY_LO, *interface("wan7", LAN), "ip route add default via 198.51.100.1"], LAN),
    ],
    ids=["no network", "loopback", "eth0", "down", "no route", "default route"],
)
def test_the_host_is_read_without_sending_a_packet(setup: list[str], ip: str | None) -> None:
    host = read_in("--net", setup)
    assert (host["ip"], host["sent"]) == (ip, 0)


@pytest.mark.parametrize(
    ("system", "expected"),
    [("linux", "linux"), ("win32", "windows"), ("freebsd14", "freebsd"), ("darwin", "darwin"),
     ("sunos5", "solaris"), ("aix", "aix")],
)  # fmt: skip
def test_os_type_has_the_values_of_opentelemetry(system: str, expected: str) -> None:
    assert os_type(system) == expected


def test_this_machine_is_read_as_it_is() -> None:
    host = read_host()
    assert 0 < (host.memory_free or 0) <= (host.memory_total or 0) == psutil.virtual_memory().total
    assert (host.name, host.os_version) == (socket.gethostname(), platform.release())


def test_memory_that_can_not_be_read_is_absent_and_the_rest_stays() -> None:
    host = read_in("--mount", ["mount -t tmpfs none /proc"])
    expected = (None, None, socket.gethostname())
    assert (host["memory_free"], host["memory_total"], host["name"]) == expected


@pytest.mark.parametrize(
    ("available", "free"),
    [
        ("MemAvailable:   300 kB", 300 * 1024),
        ("", None),
        ("MemAvailable:  -300 kB", None),
        ("MemAvailable:     0 kB", None),
        ("MemAvailable: 18446744073709551316 kB", None),
        ("MemAvailable:", None),
    ],
    ids=["as usual", "missing", "negative", "zero", "more than there is", "no number"],
)
def test_available_memory_of_a_container_is_its_own_figure_or_absent(
    available: str, free: int | None, tmp_path: Path
) -> None:
    file = tmp_path / "meminfo"
    # No Buffers, Cached or Shmem: psutil warns of them.
    file.write_text(f"MemTotal:       1000 kB\nMemFree:         200 kB\n{available}\n")
    host = read_in("--mount", [f"mount --bind {file} /proc/meminfo"])
    assert (host["memory_free"], host["memory_total"]) == (free, 1000 * 1024)


def test_a_host_name_that_is_not_utf_8_can_still_be_encoded() -> None:
    assert read_in("--uts", [], 'import socket; socket.sethostname(b"\\xff")')["name"] == "?"


def test_pseudonyms_are_keyed_hashes_of_name_and_address_alone() -> None:
    host = Host(1, 2, "db.example.org", LAN, "linux", "6.1")
    # By `openssl dgst -sha256 -mac HMAC`.
    name, ip = "4dbae5676c35c2c2481d795236e82874", "502876e2346e718397d608b1635e4146"
    assert pseudonymize(host, b"k" * 16) == Host(1, 2, name, ip, "linux", "6.1")
