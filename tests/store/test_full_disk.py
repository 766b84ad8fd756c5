"""A disk that is really full, or really read-only: a clear message, and nothing that was stored is lost."""

import subprocess
from pathlib import Path

import pytest

from trtgate.errors import StorageError
from trtgate.store.history import RunStatus, accept, load_run, quarantine, run_paths, save_run
from trtgate.store.journal import Journal
from trtgate.store.parquet import ParquetStore


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 KiB of its own; yields its mount point."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def test_a_journal_on_a_full_disk_keeps_what_it_had_and_goes_on(disk, make_record):
    journal = Journal(disk / "journal.jsonl")
    record = make_record(samples=4000)
    for number in range(6):
        journal.append(record, node=str(number))
    with pytest.raises(StorageError, match="No space left on device"):
        journal.append(make_record(samples=50_000), node="too much")
    assert [entry.node for entry in journal.entries()] == [str(number) for number in range(6)]
    _fill(disk)
    with pytest.raises(StorageError, match="No space left"):
        journal.append(record, node="again")
    (disk / "ballast").unlink()
    journal.append(make_record(samples=5), node="room again")
    assert [entry.node for entry in journal.entries()][-1] == "room again"
    assert len(journal.entries()) == 7


def test_a_history_on_a_full_disk_is_unchanged(disk, make_record):
    folder = disk / "h100"
    path = save_run(folder, [make_record()], status=RunStatus.PASSED)
    (folder / "rejected").mkdir()
    before = path.read_bytes()
    _fill(disk)
    for action in (
        lambda: save_run(folder, [make_record(samples=5000)], status=RunStatus.PASSED),
        lambda: accept(path, "Reason."),
        lambda: quarantine(path, "Reason."),
        lambda: ParquetStore(disk / "store").ingest([load_run(path)]),
    ):
        with pytest.raises(StorageError, match="No space left on device"):
            action()
        assert path.read_bytes() == before
        assert run_paths(folder) == [path]
        assert run_paths(folder, rejected=True) == []


def test_a_read_only_disk_is_a_clear_message(disk, make_record):
    folder = disk / "h100"
    path = save_run(folder, [make_record()], status=RunStatus.PASSED)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for action in (
        lambda: save_run(folder, [make_record()], status=RunStatus.PASSED),
        lambda: accept(path, "Reason."),
        lambda: Journal(disk / "journal.jsonl").append(make_record()),
        lambda: ParquetStore(disk / "store").ingest([load_run(path)]),
    ):
        with pytest.raises(StorageError, match=r"Read-only file system\. Choose a folder on a writable file system"):
            action()
    assert load_run(path).records
