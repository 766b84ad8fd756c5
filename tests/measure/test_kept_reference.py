"""What is right is computed by the first who asks, and read by the others, but never from a damaged file."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from onnx import numpy_helper
from small_workload import SmallWorkload, case_of

from trtgate.measure import kept_reference as kept
from trtgate.policy import ParitySettings
from trtgate.precision import modelopt_onnx, quantise_onnx

SETTINGS = ParitySettings()
_numbers = itertools.count()


@pytest.fixture
def context(cpu_context, tmp_path):
    return replace(cpu_context, cache=tmp_path)


@pytest.fixture
def asked(context, monkeypatch):
    """Asks for a reference, and tells whether it was computed."""
    computed = []
    genuine = kept.reference
    monkeypatch.setattr(kept, "reference", lambda *given: computed.append(given) or genuine(*given))
    name = f"kept {next(_numbers)}"

    def ask(precision="fp32", settings=SETTINGS, fingerprint="", **options):
        computed.clear()
        workload = SmallWorkload(fingerprint=name + fingerprint, **options)
        found = kept.kept_reference(workload, case_of(precision), settings, context)
        return found, bool(computed)

    return ask


def _equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype is other.dtype and torch.equal(one, other)
    if isinstance(one, tuple):
        return type(other) is tuple and len(one) == len(other) and all(map(_equal, one, other))
    return one == other


@pytest.mark.parametrize("task", [False, True])
def test_what_was_kept_is_what_was_computed(asked, task):
    first, computed = asked(task=task)
    second, again = asked(task=task)
    assert (computed, again) == (True, False)
    for part in ("kind", "names", "inputs", "outputs", "exact", "yardstick"):
        assert _equal(getattr(first, part), getattr(second, part)), part
    assert (first.evaluation is None) is (second.evaluation is None) is not task
    if task:
        for part in ("inputs", "labels", "answers", "exact"):
            assert _equal(getattr(first.evaluation, part), getattr(second.evaluation, part)), part


def test_other_weights_precisions_and_rules_have_references_of_their_own(asked):
    assert asked()[1]
    assert asked(precision="fp16")[1]
    assert asked(fingerprint=" trained")[1]
    assert asked(settings=ParitySettings(batches=5))[1]
    assert not asked()[1]


def test_a_damaged_reference_is_computed_again(asked, tmp_path):
    asked()
    (path,) = (tmp_path / kept.FOLDER).glob("*.pt")
    path.write_bytes(path.read_bytes()[:-100])
    assert asked()[1]
    assert not asked()[1]


def test_a_reference_of_a_model_that_was_quantised_otherwise_is_computed_again(context, monkeypatch):
    """By another release of the quantiser, say, which no setting tells of."""
    computed = []
    genuine = kept.reference
    monkeypatch.setattr(kept, "reference", lambda *given: computed.append(given) or genuine(*given))
    workload, case = SmallWorkload(fingerprint=f"kept {next(_numbers)}"), case_of("int8", backend="onnxruntime")

    def asked():
        computed.clear()
        kept.kept_reference(workload, case, SETTINGS, context)
        return bool(computed)

    assert asked()
    assert not asked()
    monkeypatch.setattr(quantise_onnx, "_versions", lambda: {"nvidia-modelopt": "99.0"})
    assert not asked()  # the same numbers came out of it
    monkeypatch.setattr(quantise_onnx, "_RECIPE", "calibrated otherwise")
    real = modelopt_onnx.run
    monkeypatch.setattr(modelopt_onnx, "run", lambda *given: _with_scales_doubled(real(*given)))
    assert asked()


def _with_scales_doubled(made):
    model, warnings = made
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
    return model, warnings


def test_a_reference_of_other_code_is_computed_again(asked, monkeypatch):
    asked()
    monkeypatch.setattr(kept.precision, "code", lambda: ("the digest of a mended file",))
    assert asked()[1]
