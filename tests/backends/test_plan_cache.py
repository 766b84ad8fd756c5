"""Cached plans are used only if they are, bit by bit, what was asked for; anything else is built again, aloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtgate.backends.plan_cache import PlanCache, PlanCacheWarning
from trtgate.errors import StorageError

KEY = {"onnx_sha256": "ab", "version": "1.4.0.76", "target": {"gpu": "H100", "driver": "580"}, "flags": {"tf32": False}}
PLAN = bytes(range(256)) * 8


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans", ".plan")


def test_what_was_stored_is_loaded(cache: PlanCache) -> None:
    stored = cache.store(KEY, PLAN, {"layers": 3})
    loaded = cache.load(KEY)
    assert loaded == stored
    assert loaded.content == PLAN
    assert loaded.details == {"layers": 3}


def test_an_empty_cache_is_silent(cache: PlanCache, recwarn: pytest.WarningsRecorder) -> None:
    assert cache.load(KEY) is None
    assert not recwarn.list


@pytest.mark.parametrize(
    "changed",
    [
        {"onnx_sha256": "ac"},
        {"version": "1.5.0.114"},
        {"target": {"gpu": "H100", "driver": "581"}},
        {"target": {"gpu": "H200", "driver": "580"}},
        {"flags": {"tf32": True}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_any_field_of_the_key_makes_another_entry(cache: PlanCache, changed: dict[str, object]) -> None:
    cache.store(KEY, PLAN, {})
    assert cache.load({**KEY, **changed}) is None


def test_a_truncated_plan_is_never_loaded(cache: PlanCache) -> None:
    entry = cache.store(KEY, PLAN, {})
    entry.path.write_bytes(PLAN[:100])
    with pytest.warns(PlanCacheWarning, match=r"truncated or altered \(100 bytes.*built again"):
        assert cache.load(KEY) is None


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(PLAN) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_seen(cache: PlanCache, position: int, bit: int) -> None:
    entry = cache.store(KEY, PLAN, {})
    damaged = bytearray(PLAN)
    damaged[position] ^= 1 << bit
    entry.path.write_bytes(damaged)
    with pytest.warns(PlanCacheWarning):
        assert cache.load(KEY) is None


def test_a_missing_plan_is_seen(cache: PlanCache) -> None:
    cache.store(KEY, PLAN, {}).path.unlink()
    with pytest.warns(PlanCacheWarning, match="cannot be read"):
        assert cache.load(KEY) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 99}', "\x00\xff"])
def test_a_damaged_sidecar_is_seen(cache: PlanCache, text: str) -> None:
    cache.store(KEY, PLAN, {})
    (sidecar,) = cache.folder.glob("*.json")
    sidecar.write_bytes(text.encode("latin-1"))
    with pytest.warns(PlanCacheWarning, match="sidecar of this release|not JSON"):
        assert cache.load(KEY) is None


def test_a_foreign_sidecar_under_our_name_is_seen(cache: PlanCache) -> None:
    cache.store(KEY, PLAN, {})
    cache.store({**KEY, "version": "other"}, b"foreign plan", {})
    ours, theirs = (cache._sidecar(key) for key in (KEY, {**KEY, "version": "other"}))
    ours.write_bytes(theirs.read_bytes())
    with pytest.warns(PlanCacheWarning, match="belongs to something else"):
        assert cache.load(KEY) is None


def test_a_sidecar_does_not_lead_out_of_its_folder(cache: PlanCache, tmp_path: Path) -> None:
    outside = tmp_path / "outside.plan"
    outside.write_bytes(PLAN)
    cache.store(KEY, PLAN, {}).path.unlink()
    (sidecar,) = cache.folder.glob("*.json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "file": "../outside.plan"}))
    with pytest.warns(PlanCacheWarning, match="cannot be read"):
        assert cache.load(KEY) is None


def test_storing_again_replaces_and_leaves_no_orphan(cache: PlanCache) -> None:
    cache.store(KEY, PLAN, {})
    cache.store(KEY, PLAN[::-1], {})
    assert cache.load(KEY).content == PLAN[::-1]
    assert len(list(cache.folder.iterdir())) == 2


def test_a_process_that_dies_while_writing_leaves_the_old_plan(cache: PlanCache) -> None:
    cache.store(KEY, PLAN, {})
    program = textwrap.dedent(
        f"""
        import os, pathlib
        from trtgate.backends import plan_cache
        os.fsync = lambda handle: os._exit(9)
        plan_cache.PlanCache(pathlib.Path({str(cache.folder)!r}), ".plan").store({KEY!r}, b"half", {{}})
        """
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == 9
    assert cache.load(KEY).content == PLAN


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file stands where the folder should be")
    with pytest.raises(StorageError, match=r"cannot be written \(.*\)\. Free space there"):
        PlanCache(tmp_path / "plans", ".plan").store(KEY, PLAN, {})


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        cache.store(KEY, PLAN, {})
    assert not list(cache.folder.iterdir())


def test_it_holds_a_content_until_its_key_stands_for_another(cache: PlanCache) -> None:
    entry = cache.store(KEY, PLAN, {})
    assert entry.path == cache.content_path(KEY, entry.digest)
    assert cache.holds(entry.path.name, entry.digest)
    assert not cache.holds(entry.path.name, "0" * 64)
    again = cache.store(KEY, PLAN[1:], {})
    # As another process may leave it that stored the same key at the same moment.
    entry.path.write_bytes(PLAN)
    assert not cache.holds(entry.path.name, entry.digest)
    assert cache.holds(again.path.name, again.digest)


def test_it_does_not_hold_what_was_altered_or_is_gone(cache: PlanCache) -> None:
    entry = cache.store(KEY, PLAN, {})
    entry.path.write_bytes(PLAN[:-1])
    assert not cache.holds(entry.path.name, entry.digest)
    entry.path.unlink()
    assert not cache.holds(entry.path.name, entry.digest)
    entry.path.write_bytes(PLAN)
    assert cache.holds(entry.path.name, entry.digest)
    for sidecar in (b"", b"[]", b'{"schema": 1}'):
        (cache.folder / f"{entry.path.stem.split('-')[0]}.json").write_bytes(sidecar)
        assert not cache.holds(entry.path.name, entry.digest)
