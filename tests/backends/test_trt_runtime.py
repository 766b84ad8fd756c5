"""Which TensorRT is here is told by metadata alone, and every answer is a sentence that helps."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from trtgate.backends import registry, torch_tensorrt, trt_runtime
from trtgate.errors import BackendAbsentError


@pytest.fixture
def distributions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What metadata says is installed; the test fills it. Importing any flavour is an error."""
    present: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in present:
            raise metadata.PackageNotFoundError(name)
        return present[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.delenv(trt_runtime.CHOICE_VARIABLE, raising=False)
    return present


@pytest.mark.parametrize(
    ("name", "flavour"),
    [
        ("tensorrt", "tensorrt"),
        ("tensorrt-cu13", "tensorrt"),
        ("tensorrt-cu12-bindings", "tensorrt"),
        ("tensorrt-rtx", "tensorrt_rtx"),
        ("tensorrt-rtx-cu13", "tensorrt_rtx"),
        ("tensorrt-rtx-cu13-bindings", "tensorrt_rtx"),
    ],
)
def test_any_distribution_of_a_flavour_tells_it(distributions: dict[str, str], name: str, flavour: str) -> None:
    distributions[name] = "11.4.0.106"
    assert trt_runtime.versions() == (flavour, "11.4.0.106")
    assert trt_runtime.installed_answer()


def test_a_tensorrt_is_broken_only_where_one_is_here_or_was_chosen(
    distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trt_runtime.broken(cuda=True) == ""  # absent is not broken
    distributions["tensorrt"] = "10.15.1.29"
    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(OSError("libnvinfer.so.10")))
    assert "libnvinfer.so.10" in trt_runtime.broken(cuda=True)
    assert trt_runtime.broken(cuda=False) == ""  # without a GPU nothing has to load
    distributions["tensorrt-rtx"] = "1.6.1.120"
    assert "Both TensorRT flavours are installed" in trt_runtime.broken(cuda=False)
    distributions.clear()
    monkeypatch.setenv(trt_runtime.CHOICE_VARIABLE, "tensorrt")
    assert "not installed" in trt_runtime.broken(cuda=False)


def test_nothing_is_imported_to_tell_the_flavour(
    distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = registry.get("tensorrt_engine")
    distributions["tensorrt"] = "10.15.1.29"
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    assert trt_runtime.versions() == ("tensorrt", "10.15.1.29")
    assert "built without CUDA" in backend.availability().reason
    assert "torch_tensorrt" not in sys.modules


def test_without_tensorrt_the_extra_is_named(distributions: dict[str, str]) -> None:
    assert trt_runtime.versions() == (None, None)
    assert trt_runtime.answer().reason == (
        "neither tensorrt nor tensorrt_rtx is installed; install the extra 'rtx' or 'tensorrt' of trtgate."
    )
    with pytest.raises(BackendAbsentError, match="'tensorrt_engine' cannot run here: neither tensorrt nor"):
        registry.get("tensorrt_engine").require_available()


def test_both_flavours_are_refused_by_name_until_one_is_chosen(
    distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions.update({"tensorrt": "10.15.1.29", "tensorrt-rtx": "1.4.0.76"})
    for answer in (trt_runtime.answer(), registry.get("tensorrt_engine").availability()):
        assert answer.reason == (
            "Both TensorRT flavours are installed (tensorrt 10.15.1.29 and tensorrt_rtx 1.4.0.76); "
            "uninstall one, or set TRTGATE_TENSORRT to tensorrt or tensorrt_rtx."
        )
    assert trt_runtime.versions() == (None, None)
    monkeypatch.setenv("TRTGATE_TENSORRT", "tensorrt")
    assert trt_runtime.versions() == ("tensorrt", "10.15.1.29")
    monkeypatch.setenv("TRTGATE_TENSORRT", "tensorrt_rtx")
    assert trt_runtime.versions() == ("tensorrt_rtx", "1.4.0.76")


def test_a_choice_that_is_not_installed_or_does_not_exist_is_refused(
    distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions["tensorrt"] = "10.15.1.29"
    monkeypatch.setenv("TRTGATE_TENSORRT", "tensorrt_rtx")
    assert trt_runtime.answer().reason.startswith("tensorrt_rtx is not installed")
    monkeypatch.setenv("TRTGATE_TENSORRT", "tensorrt_rxt")
    assert "Did you mean 'tensorrt_rtx'?" in trt_runtime.answer().reason
    assert trt_runtime.versions() == (None, None)


@pytest.mark.parametrize(("version", "yes"), [("10.14.1.48", False), ("8.6.1.post1", False), ("10.15.1.29", True)])
def test_an_old_tensorrt_is_refused(distributions: dict[str, str], version: str, yes: bool) -> None:
    distributions["tensorrt"] = version
    assert bool(trt_runtime.installed_answer()) is yes
    assert yes or version in trt_runtime.installed_answer().reason


def test_libraries_that_do_not_load_are_a_reason(
    distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions["tensorrt"] = "11.4.0.106"

    def broken(name: str) -> None:
        raise ImportError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert trt_runtime.answer().reason == (
        "tensorrt 11.4.0.106 is installed, but cannot be imported: libnvinfer.so.11: cannot open shared object file."
    )


def test_another_copy_on_the_module_path_is_seen(
    distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions["tensorrt"] = "11.4.0.106"
    other = SimpleNamespace(__version__="10.15.1.29", __file__="/elsewhere/tensorrt/__init__.py")
    monkeypatch.setattr(importlib, "import_module", lambda name: other)
    assert "10.15.1.29 is imported from /elsewhere" in trt_runtime.answer().reason


def test_messages_keep_errors_and_find_out_of_memory() -> None:
    messages = trt_runtime.Messages()
    assert messages.summary == "it logged nothing"
    messages.errors.append("[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)")
    assert messages.out_of_memory
    assert type(trt_runtime.failure("case", "nothing came", messages)).__name__ == "OutOfDeviceMemoryError"


# Torch-TensorRT


def test_torch_tensorrt_asks_metadata_then_the_device_then_imports(
    distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = registry.get("torch_tensorrt")
    assert "neither torch-tensorrt nor torch-tensorrt-rtx" in backend.availability().reason

    distributions["torch-tensorrt-rtx"] = "2.3.0"
    assert backend.availability().reason == (
        f"torch-tensorrt-rtx 2.3.0 is made for torch 2.3, and torch {torch.__version__} is installed."
    )

    distributions["torch-tensorrt-rtx"] = torch.__version__.split("+")[0]
    distributions["tensorrt"] = "10.15.1.29"
    assert "torch-tensorrt-rtx runs on tensorrt_rtx, and the TensorRT in use is tensorrt" in (
        backend.availability().reason
    )

    del distributions["tensorrt"]
    distributions["tensorrt-rtx"] = "1.4.0.76"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in backend.availability().reason
    assert "torch_tensorrt" not in sys.modules


def test_both_torch_tensorrts_are_refused(distributions: dict[str, str]) -> None:
    distributions.update({"torch-tensorrt": "2.14.0", "torch-tensorrt-rtx": "2.14.0"})
    reason = registry.get("torch_tensorrt").availability().reason
    assert reason.startswith("Both torch-tensorrt 2.14.0 and torch-tensorrt-rtx 2.14.0 are installed")
    assert torch_tensorrt.version() is None
