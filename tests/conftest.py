"""Records to test with, made by the real classes."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trtgate.record import LESS_EMPTY_PAIR, Baseline, Identity, Outcome, Record, Series
from trtgate.store.history import RunStatus, save_run

TWO_CASES = ("resnet18-tensorrt_engine-fp16-b8-graph", "resnet50-tensorrt_engine-fp16-b8-graph")

H100 = Identity(
    gpu="NVIDIA H100 80GB HBM3",
    architecture="sm_90",
    driver="580.159.04",
    cuda="13.0",
    tensorrt_flavour="tensorrt_rtx",
    tensorrt="1.4.0.76",
    torch_tensorrt="2.11.0",
    torch="2.11.0+cu130",
    onnxruntime="1.32.0",
    cpu="AMD EPYC 9554",
    threads=16,
    python="3.12.3",
    device_clock=LESS_EMPTY_PAIR,
)


@pytest.fixture(scope="session")
def h100() -> Identity:
    """An H100 with TensorRT-RTX."""
    return H100


@pytest.fixture(scope="session")
def cpu_only() -> Identity:
    """A machine without a GPU."""
    absent = dict.fromkeys(["gpu", "architecture", "driver", "cuda"])
    return H100.model_copy(update={**absent, "tensorrt_flavour": None, "tensorrt": None, "threads": 2})


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A measured record with noisy samples; every field can be given."""

    def make(
        case: str = "resnet18-tensorrt_engine-fp16-b8-graph",
        quantity: str = "device",
        *,
        median_s: float = 0.34e-3,
        samples: int = 50,
        baselines: dict[str, float] | None = None,
        seed: int = 0,
        **fields: object,
    ) -> Record:
        random = np.random.default_rng(seed)

        def series(middle: float) -> Series:
            return Series.of(middle * np.exp(random.normal(0, 0.01, samples)))

        outcome = fields.pop("outcome", Outcome.MEASURED)
        measured = outcome is Outcome.MEASURED
        return Record(
            **{
                "case": case,
                "quantity": quantity,
                "outcome": outcome,
                "identity": H100,
                "commit": "0123456789abcdef0123456789abcdef01234567",
                "recorded_at": "2026-11-22T12:00:00+00:00",
                "series": series(median_s) if measured else None,
                "baselines": {
                    name: Baseline(case="resnet18-eager-fp16-b8-stream", series=series(middle))
                    for name, middle in (baselines or {}).items()
                },
                **fields,
            }
        )

    return make


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder without a trtgate.toml above it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(here, make_record):
    """Saves a run of two cases whose medians are scaled by a factor each."""

    clock = itertools.count()

    def save(*factors: float, commit: str = "a" * 40, status=RunStatus.PASSED) -> Path:
        shared = {"commit": commit, "recorded_at": f"2026-11-22T12:00:{next(clock):02d}+00:00"}
        records = [
            make_record(case, median_s=1e-3 * factor, baselines={"eager": 3e-3}, samples=100, **shared)
            for case, factor in zip(TWO_CASES, factors, strict=True)
        ]
        return save_run(here / "results", records, status=status)

    return save
