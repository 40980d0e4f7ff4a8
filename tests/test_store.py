"""The state of an exporter on real disks, with real processes and kills."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from contract.disk import fill, read_only, tiny_disk
from faults import dice
from hypothesis import given, settings
from hypothesis import strategies as st
from real_faults import NOBODY, as_nobody, need_root, open_ground

from otel_novu.state_dir import LockedError, StateDirError, lock, lock_owner
from otel_novu.store import CreatedCount, LastAttempt, Store

COUNTS = {"event.created": CreatedCount(total=1, since=1_800_000_000, until=1_800_003_600)}
ATTEMPT = LastAttempt("usage", 1.0, 2.0, None, "http://collector", "delivered", b"usage")
BOTH = ("beacon", "usage")
ACTIONS = ["add", "deliver", "reject", "drop", "fill", "empty", "restart"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tiny_disk(tmp_path / "disk", 64) as disk:
        yield disk


@pytest.fixture
def store(state_dir: Path) -> Store:
    return Store(state_dir)


def add(store: Store, number: int, size: int = 0, max_bytes: int = 2**26) -> bool:
    body = b"report %d" % number + bytes(size)
    return store.add_report("beacon", float(number), body, oldest=0.0, max_bytes=max_bytes)


def waiting(store: Store) -> list[int]:
    return [int(report.read_at) for report in store.reports(BOTH)]


def write(directory: Path, *numbers: int) -> None:
    store = Store(directory)
    store.get_or_create("instance_id", lambda: "the id")
    assert store.set("telemetry", "off")
    store.created("host/novu-db")
    assert store.save_created(COUNTS)
    assert all(add(store, number) for number in numbers)


def contents(directory: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


IMPORTS = """
import os, signal, sqlite3, sys, time, uuid
from pathlib import Path
from otel_novu.store import CreatedCount, Store
path = Path(sys.argv[1])
"""


def python(code: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", IMPORTS + code, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    directory = tmp_path / "parent" / "state"
    store = Store(directory)
    assert store.get_or_create("instance_id", lambda: "first") == "first"
    assert store.set("telemetry", "off")
    assert store.created("host/novu-db") == {}
    assert store.add_report("usage", 1.0, b"x", oldest=0.0, max_bytes=99, created=COUNTS)
    store.save_last_attempt(ATTEMPT)
    with closing(sqlite3.connect(directory / "state.db")) as db, db:
        db.execute("UPDATE report SET id = 1 << 62")  # by a clock that was ahead
    (tmp_path / "link").symlink_to(directory)
    store = Store(tmp_path / "link")
    assert store.get_or_create("instance_id", lambda: "second") == "first"
    assert store.read("telemetry") == ("off", True)
    assert store.created("host/novu-db") == COUNTS
    assert (add(store, 2), waiting(store)) == (True, [1, 2])
    assert (store.last_attempt("usage"), store.last_attempt("beacon")) == (ATTEMPT, None)
    assert store.set("telemetry", None)
    assert (store.get("telemetry"), store.fault) == (None, None)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_another_database_begins_a_new_count(store: Store, state_dir: Path) -> None:
    store.created("one/novu-db")
    assert store.save_created(COUNTS)
    store.pause_created()
    assert store.created("one/novu-db")["event.created"].paused
    assert store.created("two/novu-db") == {}
    other = {"user.created": COUNTS["event.created"]}
    assert store.save_created(other)
    assert (store.created("two/novu-db"), store.created("one/novu-db")) == (other, {})
    assert b"one/novu-db" not in (state_dir / "state.db").read_bytes()


def test_too_old_and_too_many_reports_are_dropped_oldest_first_and_counted(store: Store) -> None:
    for number in range(1, 6):
        store.add_report("beacon", float(number), b"x" * 100, oldest=3.0, max_bytes=10_000)
    assert waiting(store) == [3, 4, 5]
    store.add_report("beacon", 6.0, b"x" * 100, oldest=0.0, max_bytes=250)
    assert (waiting(store), store.dropped) == ([5, 6], 4)
    assert store.newest("beacon") == list(store.reports(BOTH))[-1]


def test_a_rejected_report_is_listed_and_not_sent_again(store: Store) -> None:
    add(store, 1)
    add(store, 2)
    rejected = next(store.reports(BOTH))
    for _ in range(2):
        store.reject_report(rejected, "HTTP 400")
    assert [row.rejected for row in store.listing()] == ["HTTP 400", None]
    assert (waiting(store), store.waiting(), store.dropped) == ([2], 1, 1)
    add(store, 3, max_bytes=16)  # the dead letter makes room first, and is counted once
    assert (waiting(store), len(store.listing()), store.dropped) == ([2, 3], 2, 1)


def act(store: Store, model: list[int], action: str, number: int) -> None:
    if action == "add":
        add(store, number)
        model.append(number)
    elif action == "drop" and store.set("room", "yes"):
        store.add_report("beacon", float(number), b"x", oldest=float(number - 3), max_bytes=2**26)
        model[:] = [*(n for n in model if n >= number - 3), number]
    elif model and action in ("deliver", "reject"):
        report = next(store.reports(BOTH))
        assert report.read_at == model.pop(0)
        store.delete_report(report) if action == "deliver" else store.reject_report(report, "no")


def test_reports_wait_in_the_order_of_reading_whatever_happens(disk: Path) -> None:
    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.sampled_from(ACTIONS), max_size=30))
    def check(actions: list[str]) -> None:
        with tempfile.TemporaryDirectory(dir=disk) as folder:
            model: list[int] = []
            (filling := disk / "filling").unlink(missing_ok=True)
            store = Store(Path(folder))
            for number, action in enumerate(actions, 1):
                if action == "fill":
                    fill(disk)
                elif action == "empty":
                    filling.unlink(missing_ok=True)
                elif action == "restart" and store.set("room", "yes"):
                    store = Store(Path(folder))
                act(store, model, action, number)
                assert waiting(store) == model
                assert store.waiting() == len(model)

    check()


def test_on_a_full_disk_reports_wait_in_memory_in_order_until_there_is_room(disk: Path) -> None:
    write(disk, 1, 2)
    store = Store(disk)
    for first in (3, 6):
        filling = fill(disk)
        assert (add(store, first), add(store, first + 1)) == (False, False)
        assert (store.fault is None, store.set("telemetry", "on")) == (False, False)
        store.delete_report(next(store.reports(BOTH)))  # the disk does not delete it now
        assert waiting(store)[0] == first // 3 + 1
        filling.unlink()
        assert add(store, first + 2)
        assert store.in_memory() == 0
    store = Store(disk)
    assert (waiting(store), store.get("telemetry")) == ([3, 4, 5, 6, 7, 8], "off")


def test_a_first_start_on_a_full_disk_uses_the_disk_when_there_is_room(disk: Path) -> None:
    filling = fill(disk)
    store = Store(disk)
    assert (store.fault is None, store.readable) == (False, True)
    assert store.get_or_create("instance_id", lambda: "first") == "first"
    store.created("host/novu-db")
    assert (store.save_created(COUNTS), add(store, 1)) == (False, False)
    filling.unlink()
    assert add(store, 2)
    store = Store(disk)
    assert (waiting(store), store.get("instance_id")) == ([1, 2], "first")
    assert store.created("host/novu-db") == COUNTS


def test_reports_in_memory_are_bounded_and_keep_their_identity_on_disk(disk: Path) -> None:
    store = Store(disk)
    filling = fill(disk)
    for number in range(1, 101):
        add(store, number, size=1000, max_bytes=5500)
    assert (waiting(store), store.dropped) == ([96, 97, 98, 99, 100], 95)
    sending = next(store.reports(BOTH))
    filling.unlink()
    assert add(store, 101)
    store.delete_report(sending)
    assert waiting(store) == [97, 98, 99, 100, 101]


def test_on_a_read_only_disk_a_copy_in_memory_is_used(state_dir: Path) -> None:
    write(state_dir, 1, 2)
    with read_only(state_dir):
        store = Store(state_dir)
        assert (store.fault is None, store.set("telemetry", "on")) == (False, False)
        assert (store.get("telemetry"), store.get("instance_id")) == ("off", "the id")
        assert store.created("host/novu-db") == COUNTS
        assert not add(store, 3)
        store.delete_report(next(store.reports(BOTH)))
        assert (waiting(store), store.in_memory()) == ([2, 3], 1)
    assert add(store, 4)
    store = Store(state_dir)
    assert waiting(store) == [2, 3, 4]


def spoil(path: Path, how: str) -> None:
    write(path.parent, *range(100))
    if how == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "garbage":
        path.write_bytes(b"no database at all" * 500)
    elif how == "newer":
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        os.truncate(path, 0 if how == "empty" else path.stat().st_size // 2 + 100)


@pytest.mark.parametrize("how", ["garbage", "cut short", "empty", "newer", "pipe"])
def test_a_file_that_can_not_be_read_is_left_alone_and_named(how: str, state_dir: Path) -> None:
    path = state_dir / "state.db"
    spoil(path, how)
    before = contents(state_dir).get("state.db")
    for reader in (True, False):
        store = Store(state_dir, read_only=reader)
        assert str(store.fault).startswith(f"{path} can't be read: ")
        assert str(store.fault).endswith(f"; move {path} away")
        assert (store.readable, store.read("telemetry")) == (False, (None, False))
        assert (store.set("telemetry", "on"), add(store, 1)) == (False, False)
        assert waiting(store) == [1]
    assert contents(state_dir).get("state.db") == before
    path.rename(state_dir / "away")
    store = Store(state_dir)
    assert (store.fault, store.readable) == (None, True)


def test_a_file_of_another_user_is_not_readable() -> None:
    with open_ground() as ground:
        Store(ground)
        seen = as_nobody(lambda: str(Store(ground, read_only=True).fault))
    assert seen.endswith("unable to open database file; run as the user that owns it")


@pytest.mark.parametrize("how", ["garbage", "cut short"])
def test_after_a_later_damage_all_goes_on_from_memory_and_then_in_a_new_file(
    how: str, state_dir: Path
) -> None:
    write(state_dir)
    path = state_dir / "state.db"
    store = Store(state_dir)
    spoil(path, how)
    before = path.read_bytes()
    for number in (2, 3, 4):
        assert not add(store, number)
    store.delete_report(next(store.reports(BOTH)))
    store.reject_report(next(store.reports(BOTH)), "no")
    store.save_last_attempt(ATTEMPT)
    assert (store.last_attempt("usage"), store.read("telemetry")[1]) == (ATTEMPT, False)
    assert (waiting(store), store.waiting(), store.in_memory()) == ([4], 1, 1)
    assert (str(store.fault)[-5:], path.read_bytes()) == (" away", before)
    path.rename(state_dir / "away")
    assert add(store, 5)
    store = Store(state_dir)
    assert (waiting(store), store.created("host/novu-db")) == ([4, 5], COUNTS)
    assert (store.get("instance_id"), store.read("telemetry")) == ("the id", ("off", True))


@pytest.mark.parametrize("place", ["file", "file/below", "open to others", "another user's"])
def test_a_directory_that_is_not_ours_is_refused_with_one_sentence(
    place: str, tmp_path: Path
) -> None:
    need_root()
    (tmp_path / "file").touch()
    if "file" not in place:
        (tmp_path / place).mkdir()
        (tmp_path / place).chmod(0o777 if place == "open to others" else 0o700)
        os.chown(tmp_path / place, 0 if place == "open to others" else NOBODY, NOBODY)
    for reader in (True, False):
        with pytest.raises(StateDirError, match=r"^OTEL_NOVU_STATE_DIR: .*; expected"):
            Store(tmp_path / place, read_only=reader)


def test_one_process_holds_the_lock_and_others_can_name_it(state_dir: Path) -> None:
    with lock(state_dir, "run"):
        owner = lock_owner(state_dir)
        assert owner is not None
        assert (owner.pid, owner.command) == (os.getpid(), "run")
        who = rf"process {os.getpid()} \(otel-novu run\)"
        advice = "stop it, or set OTEL_NOVU_STATE_DIR to another directory"
        with pytest.raises(
            LockedError, match=f"^The state directory {state_dir} .*{who}; {advice}"
        ):
            lock(state_dir, "once").__enter__()
    assert lock_owner(state_dir) is None


def test_eight_first_starts_at_once_get_one_instance_id(state_dir: Path) -> None:
    code = "print(Store(path).get_or_create('instance_id', lambda: str(uuid.uuid4())))"
    processes = [python(code, state_dir) for _ in range(8)]
    assert len({process.communicate(timeout=120)[0] for process in processes}) == 1
    assert contents(state_dir).keys() == {"state.db", "state.db-journal"}


def test_threads_that_add_and_deliver_at_once_lose_and_repeat_nothing(store: Store) -> None:
    def write_some(first: int) -> None:
        for number in range(first, first + 20):
            assert add(store, number)

    delivered: list[int] = []
    writers = [threading.Thread(target=write_some, args=(20 * n,)) for n in range(4)]
    for thread in writers:
        thread.start()
    while any(thread.is_alive() for thread in writers) or store.waiting():
        for report in store.reports(BOTH):
            delivered.append(int(report.read_at))
            store.delete_report(report)
    assert sorted(delivered) == list(range(80))


def test_while_another_process_locks_the_file_nobody_hangs(state_dir: Path, store: Store) -> None:
    write(state_dir, 1)
    with closing(sqlite3.connect(state_dir / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        adding = threading.Thread(target=add, args=(store, 2))
        adding.start()
        while store.waiting(timeout=0.1) is not None:
            pass
        adding.join(120)
        assert store.in_memory() == 1
        assert store.read("telemetry") == (None, False)  # that is unknown, not unset
        other.execute("ROLLBACK")
    assert store.read("telemetry") == ("off", True)
    assert (add(store, 3), waiting(store)) == (True, [1, 2, 3])


def test_a_reader_beside_a_writer_sees_whole_reports_and_writes_nothing(state_dir: Path) -> None:
    with python(WRITER + "    time.sleep(0.02)", state_dir) as process:
        assert process.stdout is not None
        for _ in range(10):
            kept = int(process.stdout.readline())
            reader = Store(state_dir, read_only=True)
            seen = [row.read_at for row in reader.listing()]
            assert (seen, add(reader, 0)) == (list(range(1, len(seen) + 1)), False)
            assert len(seen) >= kept
        process.kill()
    reader = Store(state_dir / "missing", read_only=True)
    assert (reader.fault, reader.readable, reader.waiting()) == (None, True, 0)
    assert contents(state_dir).keys() == {"state.db", "state.db-journal"}


# Killed while its transaction is half in the file, so that the next one has to roll it back.
HALF_WRITER = """
db = sqlite3.connect(path)
db.execute("PRAGMA cache_size = 1")
db.execute("DELETE FROM report")
for number in range(200):
    db.execute("INSERT INTO report VALUES (?, 'beacon', 99.0, ?, NULL)", (number, bytes(5000)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("reader", [False, True])
def test_what_a_killed_process_left_half_written_is_undone_once_the_disk_is_writable(
    reader: bool,  # noqa: FBT001
    state_dir: Path,
) -> None:
    write(state_dir, 1, 2)
    python(HALF_WRITER, state_dir / "state.db").communicate(timeout=120)
    before = contents(state_dir)
    assert before["state.db-journal"]
    with read_only(state_dir):
        store = Store(state_dir, read_only=reader)
        assert (store.readable, store.read("telemetry")) == (False, (None, False))
        assert "make the disk writable" in str(store.fault)
        assert not add(store, 3)
        assert contents(state_dir) == before
    store = Store(state_dir, read_only=reader)
    assert (waiting(store), store.read("telemetry")) == ([1, 2], ("off", True))
    store = Store(state_dir)
    assert (add(store, 3), waiting(store)) == (True, [1, 2, 3])


WRITER = """
store = Store(path)
total = sum(count.total for count in store.created("db").values())
while total := total + 1:
    assert store.add_report("usage", total, b"%d" % total, oldest=0, max_bytes=2**26,
                            created={"event.created": CreatedCount(total, 0, total)})
    print(total, flush=True)
"""


def test_a_hundred_kills_lose_and_repeat_no_report_and_counters_agree(state_dir: Path) -> None:
    moments, kept = dice(), 0
    for _ in range(100):
        with python(WRITER, state_dir) as process:
            assert process.stdout is not None
            kept = int(process.stdout.readline())
            time.sleep(moments.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            kept = max([kept, *map(int, process.stdout.read().split())])
        with closing(sqlite3.connect(state_dir / "state.db")) as db:
            found = [int(body) for (body,) in db.execute("SELECT body FROM report ORDER BY id")]
            (total,) = db.execute("SELECT total FROM created").fetchone()
        # What was written and not yet printed may be there too.
        assert found == list(range(1, len(found) + 1))
        assert kept <= len(found) == total


PROBE = """
import sys
from pathlib import Path
from otel_novu.state_dir import lock_owner
print("ready", flush=True)
while True:
    lock_owner(Path(sys.argv[1]))
"""


def test_a_process_that_looks_at_the_lock_keeps_no_other_from_taking_it(state_dir: Path) -> None:
    command = [sys.executable, "-c", PROBE, str(state_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as probe:
        try:
            assert probe.stdout is not None
            probe.stdout.readline()
            for _ in range(200):
                with lock(state_dir, "run"):
                    pass
        finally:
            probe.kill()


def test_a_lock_file_with_garbage_names_an_unknown_owner(state_dir: Path) -> None:
    with lock(state_dir, "run"):
        (state_dir / "lock").write_bytes(b"\xff\xfe")
        owner = lock_owner(state_dir)
    assert owner is not None
    assert owner.pid is None


# The kernel answers ENOLCK to every flock of this process, as some network file systems do.
WITHOUT_LOCKS = """
import ctypes, errno, platform, struct, sys
from pathlib import Path
from otel_novu.state_dir import lock, lock_owner
number = {"x86_64": 73, "aarch64": 32}[platform.machine()]
load, jump_if_equal, answer, allow = 0x20, 0x15, 0x06, 0x7FFF0000
steps = [(load, 0, 0, 0), (jump_if_equal, 0, 1, number), (answer, 0, 0, 0x50000 | errno.ENOLCK),
         (answer, 0, 0, allow)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
filter = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, filter, 0, 0) == 0
with lock(Path(sys.argv[1]), "run"):
    print("locked by", lock_owner(Path(sys.argv[1])))
"""


def test_on_a_file_system_without_locks_there_is_none_and_a_warning(state_dir: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LOCKS, str(state_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "locked by None\n"
    assert done.stderr.splitlines() == [
        "Run one exporter only: OTEL_NOVU_STATE_DIR has no locks (No locks available)."
    ]
