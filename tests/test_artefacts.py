import errno
import subprocess
import threading

import pytest

from trtgate import artefacts
from trtgate.errors import StorageError


def write(path, content):
    return artefacts.write(path, lambda file: file.write_bytes(content))


@pytest.fixture
def artefact(tmp_path):
    return write(tmp_path / "folder" / "model.onnx", b"weights" * 1000)


def test_what_was_written_is_intact_and_nothing_else_is_left(artefact):
    assert artefacts.intact(artefact)
    assert artefact.read_bytes() == b"weights" * 1000
    assert sorted(path.name for path in artefact.parent.iterdir()) == ["model.onnx", "model.onnx.sha256"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"W" + path.read_bytes()[1:]),
        lambda path: path.unlink(),
        lambda path: artefacts.sidecar(path).unlink(),
        lambda path: artefacts.sidecar(path).write_bytes(b"\xff\xfe"),
        lambda path: artefacts.sidecar(path).write_text(""),
    ],
    ids=["truncated", "changed", "gone", "no digest", "binary digest", "empty digest"],
)
def test_damage_is_seen_and_mended_by_writing_again(artefact, damage):
    damage(artefact)
    assert not artefacts.intact(artefact)
    write(artefact, b"again")
    assert artefacts.intact(artefact)
    assert artefact.read_bytes() == b"again"


def test_a_writer_that_fails_leaves_the_old_artefact(artefact):
    def fail(path):
        path.write_bytes(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        artefacts.write(artefact, fail)
    assert artefacts.intact(artefact)
    assert len(list(artefact.parent.iterdir())) == 2


def test_a_full_disk_is_named_and_leaves_the_old_artefact(artefact):
    def fill_the_disk(path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"model\.onnx cannot be written \(No space left on device\)\. Free space"):
        artefacts.write(artefact, fill_the_disk)
    assert artefacts.intact(artefact)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="cache"):
        write(tmp_path / "cache" / "model.onnx", b"")


def test_writers_at_the_same_time_end_with_one_whole_artefact(tmp_path):
    path = tmp_path / "model.onnx"
    contents = [bytes([65 + index]) * 100_000 for index in range(8)]
    threads = [threading.Thread(target=write, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    write(path, b"last")
    assert artefacts.intact(path)


def test_keys_tell_values_types_and_names_apart_and_ignore_order():
    keys = [
        artefacts.key(a=1, b=2),
        artefacts.key(a=2, b=1),
        artefacts.key(a="1", b=2),
        artefacts.key(a=1, c=2),
        artefacts.key(a=1, b=None),
    ]
    assert len(set(keys)) == 5
    assert artefacts.key(b=2, a=1) == keys[0]
    assert all(len(key) == 32 for key in keys)
    with pytest.raises(TypeError):
        artefacts.key(a=object())


def test_a_cache_that_is_made_in_a_repository_is_none_of_its_files(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    cache = artefacts.make_cache(tmp_path / "below" / ".trtgate")
    (cache / "trees").mkdir()
    (cache / "trees" / "file").touch()
    status = ["git", "-C", tmp_path, "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(status, capture_output=True, text=True, check=True).stdout == ""


def test_a_folder_that_was_there_before_is_not_hidden_from_git(tmp_path):
    (tmp_path / "mine").touch()
    artefacts.make_cache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(StorageError, match=r"mine/cache cannot be made \(Not a directory\)"):
        artefacts.make_cache(tmp_path / "mine" / "cache")
