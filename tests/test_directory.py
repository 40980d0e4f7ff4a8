import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from crashing_disk import Crashed, CrashingDisk
from real_faults import NOBODY, as_nobody, need_root, open_ground, read_only, tiny_disk

from otel_novu.state.directory import (
    LARGEST_FILE,
    FileOps,
    Held,
    Holder,
    NotKept,
    StateDirectory,
    StateError,
    Unreadable,
)

HOLD = """
import sys, time
from pathlib import Path
from otel_novu.state.directory import StateDirectory
lock = StateDirectory.open(Path(sys.argv[1])).lock("run")
print(lock.why_not_held, flush=True)
time.sleep(600)
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def everything_in(path: Path) -> dict[str, tuple[int, int, int]]:
    found = {str(p): p.lstat() for p in (path, *path.rglob("*"))}
    return {name: (s.st_mode, s.st_size, s.st_mtime_ns) for name, s in found.items()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def state(home: Path) -> Iterator[StateDirectory]:
    with StateDirectory.open(home) as opened:
        yield opened


@contextmanager
def another_process_holding(home: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, home], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "None\n"
            yield process
        finally:
            process.kill()


def refusal(path: Path) -> str:
    """Tell what both ways to open say."""
    said = []
    for way in (StateDirectory.open, StateDirectory.look):
        with pytest.raises(StateError) as refused:
            way(path)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert said[0].startswith("OTEL_NOVU_STATE_DIR: ")
    assert "accepted is a directory (no symbolic link)" in said[0]
    return said[0]


def test_a_missing_directory_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b" / "state"
    StateDirectory.open(home).close()
    assert [mode(path) for path in (home, home.parent, home.parent.parent)] == [0o700] * 3


def test_a_file_in_the_place_of_the_directory_is_refused(home: Path) -> None:
    home.write_text("")
    assert "is a file" in refusal(home)


def test_a_file_in_the_place_of_a_parent_is_refused(home: Path) -> None:
    home.write_text("")
    assert "lies below something that is no directory" in refusal(home / "state")


def test_a_path_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    assert "can't be looked up (file name too long)" in refusal(tmp_path / ("x" * 300))
    assert "holds a NUL" in refusal(tmp_path / "a\0b")


@pytest.mark.parametrize("target", ["real", "missing"])
def test_a_symbolic_link_in_the_place_of_the_directory_is_refused(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(target)
    assert "is a symbolic link" in refusal(tmp_path / "link")
    assert not (tmp_path / "missing").exists()


def test_a_symbolic_link_among_its_parents_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with StateDirectory.open(tmp_path / "link" / "state") as state:
        state.write("file", b"kept")
    assert (tmp_path / "real" / "state" / "file").read_bytes() == b"kept"


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(home: Path, bits: int) -> None:
    home.mkdir()
    home.chmod(bits)
    assert f"may be written to by others (mode {bits:04o}; `chmod 700` mends it)" in refusal(home)


def test_the_directory_of_another_user_is_refused() -> None:
    with open_ground() as ground:
        (ground / "state").mkdir(0o755)
        said = as_nobody(lambda: refusal(ground / "state"))
    assert f"belongs to user 0, not to user {NOBODY}, who runs otel-novu" in said


def test_a_closed_directory_of_another_user_is_refused() -> None:
    with open_ground() as ground:
        (ground / "state").mkdir(0o700)
        assert "belongs to user 0" in as_nobody(lambda: refusal(ground / "state"))


def test_root_refuses_the_directory_of_another_user(home: Path) -> None:
    need_root()
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    assert f"belongs to user {NOBODY}, not to user 0" in refusal(home)


def test_an_empty_directory_that_others_may_read_becomes_its_owners_alone(home: Path) -> None:
    home.mkdir()
    home.chmod(0o755)
    StateDirectory.open(home).close()
    assert mode(home) == 0o700


def test_a_used_directory_that_others_may_read_is_accepted_as_it_is(home: Path) -> None:
    home.mkdir()
    home.chmod(0o755)
    (home / "something else").write_text("")
    with StateDirectory.open(home) as state:
        state.write("file", b"kept")
    assert mode(home) == 0o755
    assert mode(home / "file") == 0o600


def test_where_the_directory_can_not_be_made_all_is_missing_and_nothing_kept() -> None:
    def case() -> str:
        state = StateDirectory.open(ground / "state")
        assert state.read("file") is None
        assert state.names("folder") == ()
        assert state.size("file") == 0
        assert state.held_by() is None
        with state.lock("run") as lock:
            assert lock.why_not_held is not None
        with pytest.raises(NotKept):
            state.write("file", b"x")
        with pytest.raises(NotKept):
            state.remove("file")
        with pytest.raises(NotKept):
            state.move("file", "other")
        assert StateDirectory.look(ground / "state").why_not_writable == state.why_not_writable
        return str(state.why_not_writable)

    with open_ground() as ground:
        assert as_nobody(case) == "permission denied"


def test_a_directory_behind_a_closed_parent_can_be_neither_read_nor_written() -> None:
    def case() -> str:
        state = StateDirectory.open(ground / "closed" / "state")
        with pytest.raises(Unreadable, match="permission denied"):
            state.read("file")
        with pytest.raises(NotKept, match="permission denied"):
            state.write("file", b"x")
        return str(state.why_not_writable)

    with open_ground() as ground:
        (ground / "closed").mkdir(0o700)
        assert as_nobody(case) == "permission denied"


def test_a_directory_that_its_owner_may_not_write_is_read_and_keeps_nothing() -> None:
    with open_ground() as ground:
        home = ground / "state"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)

        def case() -> str:
            (home / "file").write_bytes(b"kept")
            home.chmod(0o500)
            looked = StateDirectory.look(home).why_not_writable
            state = StateDirectory.open(home)
            assert state.why_not_writable == looked
            assert state.read("file") == b"kept"
            with pytest.raises(
                NotKept, match="file could not be kept in the state directory: perm"
            ):
                state.write("file", b"new")
            with pytest.raises(NotKept):
                state.remove("file")
            assert state.read("file") == b"kept"
            return str(looked)

        assert as_nobody(case) == "permission denied"


def test_a_directory_and_a_file_that_their_owner_may_not_read_are_not_missing() -> None:
    with open_ground() as ground:
        home = ground / "state"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)

        def case() -> str:
            with StateDirectory.open(home) as state:
                state.write("file", b"kept")
                (home / "file").chmod(0)
                with pytest.raises(Unreadable, match="permission denied") as one:
                    state.read("file")
            home.chmod(0o300)
            with pytest.raises(Unreadable, match="permission denied"):
                StateDirectory.open(home).read("other")
            return str(one.value)

        assert as_nobody(case) == "file in the state directory can't be read: permission denied"


def test_on_a_read_only_disk_files_are_read_and_nothing_is_kept(home: Path) -> None:
    with StateDirectory.open(home) as before:
        before.write("file", b"kept")
    with read_only(home), StateDirectory.open(home) as state:
        assert state.why_not_writable == "the file system is read-only"
        assert StateDirectory.look(home).why_not_writable == "the file system is read-only"
        assert state.read("file") == b"kept"
        with pytest.raises(NotKept, match="the file system is read-only"):
            state.write("file", b"new")
        with pytest.raises(NotKept, match="the file system is read-only"):
            state.remove("file")
        with state.lock("run") as lock:
            assert lock.why_not_held == "the file system is read-only"
        assert state.read("file") == b"kept"


def test_on_a_read_only_disk_a_missing_directory_is_missing(tmp_path: Path) -> None:
    with read_only(tmp_path), StateDirectory.open(tmp_path / "a" / "state") as state:
        assert state.why_not_writable == "the file system is read-only"
        assert state.read("file") is None


def test_on_a_full_disk_the_old_file_stands_whole_until_there_is_room(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as home, StateDirectory.open(home) as state:
        state.write("file", b"old" * 1000)
        (home / "filler").write_bytes(bytes(40_000))
        with pytest.raises(NotKept, match="no space is left on the device"):
            state.write("file", b"new" * 10_000)
        assert state.why_not_writable == "no space is left on the device"
        assert state.read("file") == b"old" * 1000
        assert names_in(home) == ["file", "filler"]
        (home / "filler").unlink()
        state.write("file", b"new" * 10_000)
        assert state.read("file") == b"new" * 10_000
        assert state.why_not_writable is None


def test_a_full_disk_is_foretold(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", 16) as home:
        (home / "filler").write_bytes(bytes(16 * 1024))
        for way in (StateDirectory.open, StateDirectory.look):
            with way(home) as state:
                assert state.why_not_writable == "no space is left on the device"
        with StateDirectory.open(home) as state, state.lock("run") as lock:
            assert lock.why_not_held is None
            assert state.why_not_writable == "no space is left on the device"


def test_only_a_missing_file_reads_as_missing(state: StateDirectory) -> None:
    assert state.read("file") is None
    assert state.read("folder/file") is None
    state.write("file", b"")
    assert state.read("file") == b""


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.mkdir(), "it is no regular file"),
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.symlink_to("other"), "a symbolic link stands in its place"),
    ],
    ids=["directory", "pipe", "link"],
)
def test_what_is_no_file_is_unreadable_and_left_alone(
    state: StateDirectory, home: Path, make: Callable[[Path], None], why: str
) -> None:
    state.write("other", b"not to be reached through a link")
    make(home / "file")
    before = everything_in(home)
    with pytest.raises(Unreadable) as unreadable:
        state.read("file")
    assert (unreadable.value.name, unreadable.value.why) == ("file", why)
    assert not unreadable.value.passing
    assert everything_in(home) == before


def test_a_file_beyond_all_measure_is_neither_read_nor_written(
    state: StateDirectory, home: Path
) -> None:
    with (home / "file").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(Unreadable, match="it is larger than 64 MiB"):
        state.read("file")
    with pytest.raises(NotKept, match="it is larger than 64 MiB"):
        state.write("file", bytes(LARGEST_FILE + 1))


def test_a_link_in_the_place_of_a_folder_is_not_followed(
    state: StateDirectory, home: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("foreign")
    (home / "folder").symlink_to(elsewhere)
    with pytest.raises(Unreadable):
        state.read("folder/file")
    with pytest.raises(Unreadable):
        state.names("folder")
    with pytest.raises(NotKept):
        state.write("folder/file", b"ours")
    assert (elsewhere / "file").read_text() == "foreign"
    assert state.size("folder/file") == 0


def test_writing_replaces_a_link_and_not_what_it_points_to(
    state: StateDirectory, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("foreign")
    (home / "file").symlink_to(tmp_path / "elsewhere")
    state.write("file", b"ours")
    assert state.read("file") == b"ours"
    assert (tmp_path / "elsewhere").read_text() == "foreign"


def test_files_are_their_owners_alone_whatever_the_umask(state: StateDirectory, home: Path) -> None:
    before = os.umask(0)
    try:
        state.write("file", b"")
        state.write("folder/file", b"")
        state.lock("run").release()
    finally:
        os.umask(before)
    files = (home / "file", home / "folder" / "file", home / "lock")
    assert [mode(file) for file in files] == [0o600] * 3
    assert mode(home / "folder") == 0o700


def test_folders_are_listed_in_order_without_hidden_names(
    state: StateDirectory, home: Path
) -> None:
    for name in ("folder/b", "folder/a", "c"):
        state.write(name, name.encode())
    (home / "folder" / ".new-left-over").write_text("")
    assert state.names() == ("c", "folder")
    assert state.names("folder") == ("a", "b")
    assert state.names("missing") == ()
    assert state.size("folder/b") == 8
    assert state.size("folder") == 0


def test_a_file_is_moved_and_removed(state: StateDirectory) -> None:
    state.write("folder/file", b"kept")
    state.move("folder/file", "other/name")
    assert (state.read("folder/file"), state.read("other/name")) == (None, b"kept")
    state.remove("other/name")
    state.remove("other/name")
    state.remove("nowhere/name")
    assert state.read("other/name") is None
    with pytest.raises(NotKept):
        state.move("folder/file", "other/name")


@pytest.mark.parametrize(
    "name", ["", "/", "/etc/passwd", "a/b/c", "..", "../a", "a/..", ".a", "a\0"]
)
def test_names_do_not_leave_the_directory(state: StateDirectory, name: str) -> None:
    for act in (
        lambda: state.read(name),
        lambda: state.write(name, b""),
        lambda: state.remove(name),
        lambda: state.size(name),
    ):
        with pytest.raises(ValueError, match="is no name in the state directory"):
            act()


def test_at_whatever_call_a_write_is_cut_short_the_file_is_the_old_or_the_new_one(
    home: Path,
) -> None:
    disk = CrashingDisk()
    seen = set()
    done = False
    step = 0
    while not done:
        state = StateDirectory.open(home, disk)
        state.write("folder/file", b"the old one")
        disk.crash_at = disk.calls + step
        try:
            state.write("folder/file", b"the new one, which is longer")
            done = True
        except Crashed:
            step += 1
        disk.restart(keep_changes=step % 3, keep_bytes=step % 7)
        content = (home / "folder" / "file").read_bytes()
        assert content in (b"the old one", b"the new one, which is longer")
        assert content != b"the old one" or not done
        seen.add(content)
    disk.close_for_good()
    assert len(seen) == 2
    assert step > 5


def test_the_next_holder_clears_away_what_was_cut_short(home: Path) -> None:
    disk = CrashingDisk()
    for name in ("file", "folder/file"):
        state = StateDirectory.open(home, disk)
        state.write(name, b"old")
        disk.crash_at = disk.calls + 3
        with pytest.raises(Crashed):
            state.write(name, b"new")
        disk.restart(keep_changes=99, keep_bytes=1)
    disk.close_for_good()
    assert len(list(home.rglob(".new-*"))) == 2
    with StateDirectory.open(home) as state, state.lock("run"):
        assert list(home.rglob(".new-*")) == []
        assert (state.read("file"), state.read("folder/file")) == (b"old", b"old")


def test_a_write_beside_a_holder_that_clears_away_still_succeeds(home: Path) -> None:
    class ClearedAwayOnce(FileOps):
        cleared = False

        def rename(self, old: str, new: str, *, old_at: int, new_at: int) -> None:
            if not self.cleared:
                self.cleared = True
                os.unlink(old, dir_fd=old_at)
            super().rename(old, new, old_at=old_at, new_at=new_at)

    files = ClearedAwayOnce()
    with StateDirectory.open(home, files) as state:
        state.write("file", b"kept")
        assert state.read("file") == b"kept"
    assert files.cleared


def test_a_file_system_without_locks_and_without_synced_directories_serves_all_the_same(
    home: Path,
) -> None:
    class Meagre(FileOps):
        def lock(self, fd: int, operation: int) -> None:
            del fd, operation
            raise OSError(errno.ENOLCK, "No locks available")

        def fsync(self, fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            super().fsync(fd)

    with StateDirectory.open(home, Meagre()) as state, state.lock("run") as lock:
        assert lock.why_not_held == "no locks available"
        assert state.held_by() is None
        state.write("folder/file", b"kept")
        assert state.read("folder/file") == b"kept"


def test_a_directory_that_can_not_be_synced_keeps_nothing_for_sure(home: Path) -> None:
    class Failing(FileOps):
        def fsync(self, fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, "Input/output error")
            super().fsync(fd)

    with (
        StateDirectory.open(home, Failing()) as state,
        pytest.raises(NotKept, match="input/output error"),
    ):
        state.write("file", b"perhaps")


def test_a_second_process_is_told_who_holds_the_directory(
    state: StateDirectory, home: Path
) -> None:
    with another_process_holding(home) as holder:
        with pytest.raises(Held) as held:
            state.lock("once")
        assert (held.value.pid, held.value.command) == (holder.pid, "run")
        assert str(held.value) == (
            f"another otel-novu (`run`, process {holder.pid}) holds the state directory "
            "(OTEL_NOVU_STATE_DIR)"
        )
        with StateDirectory.look(home) as beside:
            assert beside.held_by() == Holder(holder.pid, "run")
            state.write("file", b"others may run beside it")
            assert beside.read("file") == b"others may run beside it"


def test_a_killed_holder_holds_nothing(state: StateDirectory, home: Path) -> None:
    with another_process_holding(home) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert state.held_by() is None
        with state.lock("once") as lock:
            assert lock.why_not_held is None
            assert state.held_by() == Holder(os.getpid(), "once")
        lock.release()
        assert state.held_by() is None


def test_a_lock_that_tells_nothing_of_its_holder_still_holds(
    state: StateDirectory, home: Path
) -> None:
    with state.lock("run"):
        (home / "lock").write_text("gibberish")
        assert state.held_by() == Holder(None, "")
        with pytest.raises(Held, match=r"^another otel-novu holds the state directory"):
            state.lock("once")


def test_what_is_no_file_in_the_lock_s_place_is_said(state: StateDirectory, home: Path) -> None:
    (home / "lock").mkdir()
    with state.lock("run") as lock:
        assert lock.why_not_held == "it is no regular file"
    assert state.held_by() is None


def test_a_probe_never_makes_a_starting_holder_give_up(home: Path) -> None:
    done = threading.Event()

    def probe() -> None:
        with StateDirectory.look(home) as beside:
            while not done.is_set():
                beside.held_by()
                done.wait(0.0005)

    with StateDirectory.open(home) as state:
        state.lock("run").release()
        prober = threading.Thread(target=probe)
        prober.start()
        try:
            for _ in range(200):
                state.lock("run").release()
        finally:
            done.set()
            prober.join()


def test_a_lock_that_is_probed_just_now_is_tried_again(home: Path) -> None:
    class ProbedTwice(FileOps):
        probes = 2

        def lock(self, fd: int, operation: int) -> None:
            if self.probes:
                self.probes -= 1
                raise BlockingIOError
            super().lock(fd, operation)

    with StateDirectory.open(home, ProbedTwice()) as state, state.lock("run") as lock:
        assert lock.why_not_held is None


def test_looking_makes_and_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "a" / "state"
    with StateDirectory.look(home) as missing:
        assert missing.why_not_writable is None
        assert missing.read("file") is None
        assert missing.held_by() is None
        with pytest.raises(NotKept, match="this command only looks"):
            missing.write("file", b"")
        assert missing.lock("run").why_not_held is not None
    assert list(tmp_path.iterdir()) == []
    with StateDirectory.open(home) as state:
        state.write("file", b"kept")
    home.chmod(0o755)
    before = everything_in(home)
    with StateDirectory.look(home) as looked:
        assert looked.read("file") == b"kept"
        assert looked.names() == ("file",)
        assert looked.held_by() is None
        with pytest.raises(NotKept):
            looked.remove("file")
    assert everything_in(home) == before


def descriptors_below(folder: Path) -> list[str]:
    """What is open in it; other tests' sockets may be closed at any moment."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return [target for target in found if target.startswith(str(folder))]


def test_a_closed_directory_answers_nothing_and_leaves_no_descriptor(home: Path) -> None:
    with StateDirectory.open(home) as state:
        assert descriptors_below(home) != []
        with state.lock("run"):
            for _ in range(3):
                state.write("folder/file", b"x")
                state.read("folder/file")
                state.names("folder")
                with pytest.raises(Held):
                    state.lock("once")
                state.held_by()
                state.remove("folder/file")
        state.close()
        with pytest.raises(Unreadable, match="it is closed"):
            state.read("file")
        with pytest.raises(NotKept, match="it is closed"):
            state.write("file", b"")
    assert descriptors_below(home) == []


def test_too_many_open_files_is_a_fault_that_passes(home: Path) -> None:
    with open_ground() as ground:
        home = ground / "state"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)

        def case() -> str:
            import resource  # noqa: PLC0415 - of no use elsewhere

            state = StateDirectory.open(home)
            state.write("file", b"kept")
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                state.read("file")
            except Unreadable as error:
                return f"{error.why}, {error.passing}"
            return "read"

        assert as_nobody(case) == "too many open files, True"
