"""The demonstration's fault is one that a gate can see, in every case it names."""

import pytest
import torch

from benchmarks import show_regression
from trtgate.case import Case, Execution, Precision
from trtgate.gate.sides import own_root
from trtgate.precision import cast


def test_the_eight_cases_are_graphed_fp16_engines_and_hold_the_one_of_every_day():
    cases = [Case.parse(text) for text in show_regression.EIGHT_CASES]
    assert len({case.id for case in cases}) == 8
    assert {(case.backend, case.precision, case.execution) for case in cases} == {
        ("tensorrt_engine", Precision.FP16, Execution.GRAPH)
    }
    assert set(show_regression.DEFAULT_CASES) < set(show_regression.EIGHT_CASES)


@pytest.mark.parametrize("attention", [False, True])
def test_the_faulty_tree_still_computes_and_every_second_layer_falls_back(attention):
    names = {**vars(cast)}
    exec(show_regression._FAULT, names)  # what the copied tree's cast.py ends with
    layers = [torch.nn.Linear(8, 8) for _ in range(4)]
    if attention:
        layers.insert(1, torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).self_attn)
    module = torch.nn.ModuleList(layers).half().eval()
    faulty = names["_safely"](module, Precision.FP16)
    fallen = [layer for layer in faulty if type(layer).__name__ == "_InFloat32"]
    assert len(fallen) == 2
    x = torch.ones(1, 2, 8, dtype=torch.float16)
    for layer in faulty:
        x = layer(x, x, x)[0] if isinstance(layer, torch.nn.MultiheadAttention) else layer(x)
    assert x.dtype is torch.float16


def test_the_line_that_is_edited_is_still_there():
    assert show_regression._SOUND in (own_root() / show_regression._EDITED).read_text()
