"""The state of an exporter on real disks, with real processes and kills."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_faults import NOBODY, as_nobody, need_root, open_ground, read_only, tiny_disk

from otel_novu.state_dir import LockedError, StateDirError, lock, lock_owner
from otel_novu.store import CreatedCount, LastAttempt, Store

COUNT = CreatedCount(total=1, since=1_800_000_000, until=1_800_003_600)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def open_store() -> Iterator[Callable[[Path], Store]]:
    opened: list[Store] = []

    def make(directory: Path) -> Store:
        opened.append(Store.open(directory))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def add(store: Store, number: int, scope: str = "beacon") -> bool:
    return store.add_report(
        scope, float(number), b"report %d" % number, oldest=0.0, max_bytes=2**26
    )


def waiting(store: Store) -> list[int]:
    return [int(report.read_at) for report in store.reports(("beacon", "usage"))]


def test_everything_is_there_again_after_a_restart(
    directory: Path, open_store: Callable[[Path], Store]
) -> None:
    store = open_store(directory)
    identity = store.get_or_create("instance_id", lambda: str(uuid4()))
    assert store.set("telemetry", "off")
    assert store.created("host/novu-db") == {}
    created = {"event.created": COUNT}
    assert store.add_report("usage", 1.0, b"usage", oldest=0.0, max_bytes=2**26, created=created)
    attempt = LastAttempt("usage", 1.0, 2.0, None, "http://collector", "delivered", b"usage")
    store.save_last_attempt(attempt)
    store.close()
    again = open_store(directory)
    assert again.get_or_create("instance_id", lambda: str(uuid4())) == identity
    assert again.get("telemetry") == "off"
    assert again.created("host/novu-db") == created
    assert waiting(again) == [1]
    assert again.last_attempt("usage") == attempt
    assert (directory / "state.db").stat().st_mode & 0o777 == 0o600


def test_another_database_begins_a_new_count(
    directory: Path, open_store: Callable[[Path], Store]
) -> None:
    store = open_store(directory)
    assert store.created("one/novu-db") == {}
    assert store.save_created({"event.created": COUNT})
    store.pause_created()
    assert store.created("one/novu-db")["event.created"].paused
    assert store.created("two/novu-db") == {}
    assert "one/novu-db" not in (directory / "state.db").read_bytes().decode(errors="replace")


def test_too_old_and_too_many_reports_are_dropped_oldest_first_and_counted(
    directory: Path, open_store: Callable[[Path], Store]
) -> None:
    store = open_store(directory)
    for number in range(1, 6):
        store.add_report("beacon", float(number), b"x" * 100, oldest=3.0, max_bytes=10_000)
    assert waiting(store) == [3, 4, 5]
    store.add_report("beacon", 6.0, b"x" * 100, oldest=0.0, max_bytes=250)
    assert waiting(store) == [5, 6]
    assert store.dropped == 4


def test_a_rejected_report_is_listed_and_not_sent_again(
    directory: Path, open_store: Callable[[Path], Store]
) -> None:
    store = open_store(directory)
    for number in (1, 2):
        add(store, number)
    store.reject_report(next(store.reports(("beacon",))), "HTTP 400")
    assert waiting(store) == [2]
    assert [row.rejected for row in store.listing()] == ["HTTP 400", None]
    assert (store.waiting(), store.dropped) == (1, 1)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["add", "delete oldest", "delete newest", "reject"]), max_size=25))
def test_reports_wait_in_the_order_of_reading_whatever_happens(actions: list[str]) -> None:
    model: list[int] = []
    store = Store.open_read_only(Path("/nonexistent"))  # in memory
    for number, action in enumerate(actions, 1):
        if action == "add":
            add(store, number)
            model.append(number)
        elif model and action == "delete newest":
            newest = store.newest("beacon")
            assert newest is not None
            assert newest.read_at == model.pop()
            store.delete_report(newest)
        elif model:
            oldest = next(store.reports(("beacon",)))
            assert oldest.read_at == model.pop(0)
            if action == "reject":
                store.reject_report(oldest, "no")
            else:
                store.delete_report(oldest)
        assert waiting(store) == model
    store.close()


def test_on_a_full_disk_reports_wait_in_memory_in_order_until_there_is_room(
    tmp_path: Path, open_store: Callable[[Path], Store]
) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        store = open_store(disk)
        assert add(store, 1)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        kept = [add(store, number) for number in range(2, 12)]
        assert not kept[-1]
        assert store.fault is not None
        assert waiting(store) == list(range(1, 12))
        for report in list(store.reports(("beacon",)))[:2]:
            store.delete_report(report)
        assert waiting(store) == list(range(3, 12))
        filler.unlink()
        assert add(store, 12)
        assert (waiting(store), store.in_memory()) == ([*range(3, 13)], 0)
        store.close()
        again = open_store(disk)
        assert waiting(again) == list(range(3, 13))
        again.close()


def test_on_a_read_only_disk_a_copy_in_memory_is_used(
    tmp_path: Path, directory: Path, open_store: Callable[[Path], Store]
) -> None:
    store = open_store(directory)
    store.set("telemetry", "off")
    add(store, 1)
    store.close()
    with read_only(directory):
        store = open_store(directory)
        assert store.fault is not None
        assert store.readable
        assert store.get("telemetry") == "off"
        assert not store.set("telemetry", "on")
        assert not add(store, 2)
        assert (waiting(store), store.in_memory()) == ([1, 2], 2)
        store.close()
    assert tmp_path.exists()


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


def truncated(path: Path) -> None:
    store = Store.open(path.parent)
    for number in range(200):
        add(store, number)
    store.close()
    os.truncate(path, path.stat().st_size // 2 + 100)


def newer(path: Path) -> None:
    Store.open(path.parent).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize("spoil", [garbage, truncated, newer])
def test_a_file_that_can_not_be_read_is_left_alone_and_named(
    spoil: Callable[[Path], None], directory: Path, open_store: Callable[[Path], Store]
) -> None:
    path = directory / "state.db"
    spoil(path)
    before = path.read_bytes()
    for store in (open_store(directory), Store.open_read_only(directory)):
        assert not store.readable
        assert str(path) in (store.fault or "")
        assert not add(store, 1)
        assert waiting(store) == [1]
        store.close()
    assert path.read_bytes() == before


def test_a_file_of_another_user_is_not_readable() -> None:
    def look() -> str:
        store = Store.open_read_only(ground)
        return f"{store.readable} {store.fault}"

    with open_ground() as ground:
        Store.open(ground).close()
        seen = as_nobody(look)
    assert seen.startswith("False")
    assert "state.db can't be read" in seen


@pytest.mark.parametrize("place", ["a file", "below a file", "open to others", "another user's"])
def test_a_directory_that_is_not_ours_is_refused_with_one_sentence(
    place: str, tmp_path: Path
) -> None:
    need_root()
    path = tmp_path / "place"
    if place.endswith("a file"):
        path.write_text("")
        path = path / "state" if place.startswith("below") else path
    else:
        path.mkdir()
        path.chmod(0o777 if place.startswith("open") else 0o700)
        if place.startswith("another"):
            os.chown(path, NOBODY, NOBODY)
    for open_it in (Store.open, Store.open_read_only):
        with pytest.raises(StateDirError, match=r"^OTEL_NOVU_STATE_DIR: .*; expected"):
            open_it(path)


def test_a_symbolic_link_to_a_directory_is_followed(directory: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)
    Store.open(link).close()
    assert (directory / "state.db").exists()


def test_one_process_holds_the_lock_and_others_can_name_it(directory: Path) -> None:
    assert lock_owner(directory) is None
    with lock(directory, "run"):
        owner = lock_owner(directory)
        assert owner is not None
        assert (owner.pid, owner.command) == (os.getpid(), "run")
        with pytest.raises(LockedError, match=rf"process {os.getpid()} \(otel-novu run\)"):
            lock(directory, "once").__enter__()
    assert lock_owner(directory) is None


def test_eight_first_starts_at_once_get_one_instance_id(directory: Path) -> None:
    code = (
        "import sys, uuid; from pathlib import Path; from otel_novu.store import Store\n"
        "print(Store.open(Path(sys.argv[1])).get_or_create('instance_id', "
        "lambda: str(uuid.uuid4())))"
    )
    command = [sys.executable, "-c", code, str(directory)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert len({process.communicate(timeout=120)[0] for process in processes}) == 1


WRITER = """
import sys
from pathlib import Path
from otel_novu.store import CreatedCount, Store

store = Store.open(Path(sys.argv[1]))
count = store.created("db").get("event.created", CreatedCount(0, 0, 0))
while True:
    total = count.total + 1
    count = CreatedCount(total, 0, total)
    assert store.add_report("usage", float(total), b"%d" % total, oldest=0, max_bytes=2**26,
                            created={"event.created": count})
    print(total, flush=True)
"""


def test_a_hundred_kills_lose_and_repeat_no_report_and_counters_agree(directory: Path) -> None:
    seed = random.randrange(10**9)  # noqa: S311 - chooses moments, guards nothing
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)  # noqa: S311 - as above
    kept = 0
    for _ in range(100):
        command = [sys.executable, "-c", WRITER, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            kept = int(process.stdout.readline())
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            kept = max([kept, *map(int, process.stdout.read().split())])
        with sqlite3.connect(directory / "state.db") as db:
            found = [int(body) for (body,) in db.execute("SELECT body FROM report ORDER BY id")]
            (total,) = db.execute("SELECT total FROM created").fetchone()
        db.close()
        # What was written and not yet printed may be there too.
        assert found == list(range(1, len(found) + 1)), seed
        assert kept <= len(found) == total, seed
        kept = len(found)
