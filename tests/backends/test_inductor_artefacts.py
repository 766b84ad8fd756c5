"""Artefacts of Inductor that are damaged: set aside where they are to blame, kept where they are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed, Unsupported

from trtgate.backends import registry
from trtgate.backends.base import BuildContext
from trtgate.backends.inductor_artefacts import DamagedArtefactsWarning, without_damaged
from trtgate.backends.module_runner import flatten
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import StorageError
from trtgate.workloads.base import Workload

INDUCTOR = BackendName.INDUCTOR
needs_compiler = pytest.mark.skipif(
    not registry.get(INDUCTOR).availability(), reason=registry.get(INDUCTOR).availability().reason or "here"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one artefact, which is damaged."""
    made = tmp_path / "inductor"
    made.mkdir()
    (made / "kernel.so").write_text("torn")
    return made


def loader(folder: Path) -> Callable[[], str]:
    """Loads the artefact, which it makes where there is none."""

    def make() -> str:
        kernel = folder / "kernel.so"
        if not kernel.exists():
            folder.mkdir(exist_ok=True)
            kernel.write_text("whole")
        if kernel.read_text() != "whole":
            raise BackendCompilerFailed(make, ImportError(f"{kernel}: file too short"), None)
        return kernel.read_text()

    return make


def failing(*errors: Exception) -> tuple[Callable[[], None], list[Exception]]:
    """Raises these errors in turn; and those that are left."""
    left = list(errors)

    def make() -> None:
        raise left.pop(0)

    return make, left


def test_a_folder_with_a_damaged_artefact_is_set_aside_and_named(folder: Path) -> None:
    with pytest.warns(DamagedArtefactsWarning) as said:
        assert without_damaged(folder, loader(folder)) == "whole"
    (aside,) = folder.parent.glob("inductor.*")
    assert (aside / "kernel.so").read_text() == "torn"
    assert f"{folder} (ImportError: {folder}/kernel.so: file too short)" in str(said[0].message)
    assert str(aside) in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert without_damaged(folder, loader(folder)) == "whole"


@pytest.mark.parametrize("writes", [False, True])
def test_what_fails_without_artefacts_too_keeps_them_and_the_second_error_counts(folder: Path, writes: bool) -> None:
    make, left = failing(RuntimeError("first"), RuntimeError("second"))

    def compiles() -> None:
        if writes:
            folder.mkdir(exist_ok=True)
            (folder / "other.so").write_text("whole")
        make()

    with pytest.raises(RuntimeError, match="second"):
        without_damaged(folder, compiles)
    assert not left
    assert [path.name for path in folder.parent.iterdir()] == ["inductor"]
    assert (folder / "kernel.so").read_text() == "torn"


@pytest.mark.parametrize(
    "error",
    [
        Unsupported("Graph break", gb_type="x"),
        BackendCompilerFailed(len, torch.cuda.OutOfMemoryError("CUDA out of memory."), None),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        KeyboardInterrupt(),
    ],
    ids=["Dynamo's own", "no memory to compile", "no memory to run", "interrupted"],
)
def test_what_no_artefact_can_be_blamed_for_is_not_tried_again(folder: Path, error: Exception) -> None:
    make, left = failing(error, RuntimeError("second"))
    with pytest.raises(type(error)):
        without_damaged(folder, make)
    assert len(left) == 1
    assert (folder / "kernel.so").exists()


@pytest.mark.parametrize("there", [False, True])
def test_without_artefacts_there_is_one_go(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "inductor").mkdir()
    make, left = failing(RuntimeError("first"), RuntimeError("second"))
    with pytest.raises(RuntimeError, match="first"):
        without_damaged(tmp_path / "inductor", make)
    assert len(left) == 1


def test_a_folder_that_cannot_be_set_aside_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuses)
    with pytest.raises(StorageError) as raised:
        without_damaged(folder, loader(folder))
    assert raised.value.problem.startswith(f"torch.compile failed with the artefacts in {folder} (ImportError: ")
    assert "(Permission denied)" in raised.value.problem
    assert raised.value.fix == "Make the folder writable, or remove it."


@needs_compiler
@pytest.mark.slow
def test_a_truncated_library_is_made_again_and_compiled_models_of_the_process_go_on(
    workload: Workload, context: BuildContext
) -> None:
    from torch._inductor.utils import clear_caches

    backend, case, earlier = registry.get(INDUCTOR), Case("tiny", INDUCTOR, Precision.FP32, 2), 3
    inputs, module = workload.inputs(2, None, 1), workload.module()
    backend.build(workload, case, context).close()
    damaged = replace(context, cache=context.cache / "damaged")
    before = backend.build(workload, replace(case, batch=earlier), damaged)
    # Copies, for a library that this process has loaded must not be cut, and is not read again under the same path.
    for file in (path for path in (context.cache / "inductor").rglob("*") if path.is_file()):
        place = damaged.cache / "inductor" / file.relative_to(context.cache / "inductor")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes()[: 40 if file.suffix == ".so" else None])
    clear_caches()  # as in a process that has compiled nothing of this case
    with pytest.warns(DamagedArtefactsWarning, match="file too short"):
        runner = backend.build(workload, case, damaged)
    assert not runner.facts.from_cache
    for one, batch in ((runner, inputs), (before, workload.inputs(earlier, None, 1))):
        one.bind(batch)
        one.enqueue()
        for ours, theirs in zip(one.outputs(), flatten(module(*batch)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert len(list(damaged.cache.glob("inductor.*"))) == 1
    again = backend.build(workload, case, damaged)
    assert again.facts.from_cache
    for one in (runner, before, again):
        one.close()
