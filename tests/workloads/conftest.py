"""Digits and a trained network, made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtgate.workloads import mnist
from trtgate.workloads.simple_cnn import SimpleCNNWorkload


@pytest.fixture(scope="session")
def trained_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with parsed digits and trained weights."""
    cache = tmp_path_factory.mktemp("cache")
    SimpleCNNWorkload(cache).module()
    return cache


@pytest.fixture(scope="session")
def digits(trained_cache: Path) -> mnist.Digits:
    return mnist.load(trained_cache)
