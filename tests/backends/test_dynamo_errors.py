"""The reason of a failed `torch.compile`, from PyTorch's own errors."""

from __future__ import annotations

import pytest
from torch._dynamo.exc import BackendCompilerFailed, Unsupported
from torch._inductor.exc import CppCompileError, InductorError

from trtgate.backends.dynamo_errors import reason_of


def failed(inner: Exception) -> BackendCompilerFailed:
    return BackendCompilerFailed(lambda: None, inner, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (failed(ImportError("x.main.so: file too short")), "ImportError: x.main.so: file too short"),
        (failed(InductorError(KeyError("lane"), None)), "KeyError: 'lane'"),
        (failed(AssertionError()), "AssertionError"),
        (failed(RuntimeError("It failed as follows:\n\n no memory.\n")), "RuntimeError: no memory"),
        (
            failed(CppCompileError(["g++"], "In x.cpp:\nx.cpp:3:1: error: no lane")),
            "CppCompileError: x.cpp:3:1: error: no lane",
        ),
        (
            failed(RuntimeError("In a process:\nTraceback (most recent call last):\n  File 'x'\nValueError: no lane")),
            "RuntimeError: ValueError: no lane",
        ),
        (Unsupported("Graph break.\n Explanation: none", gb_type="x"), "Graph break"),
        (RuntimeError(""), "RuntimeError"),
    ],
)
def test_the_innermost_error_tells_its_type_and_its_words(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
