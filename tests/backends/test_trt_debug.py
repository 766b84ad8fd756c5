"""How tensors of an engine are shown, on a runtime that takes debug marks and heeds them, or does not.

TensorRT itself is stood in for, for its engines run on a GPU alone; what is marked, bound and told is real.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trtgate.backends import trt_debug
from trtgate.backends.trt_debug import TensorRTTensors
from trtgate.case import Precision
from trtgate.errors import InspectionError


class Network:
    """Three layers in a row; the last one's output is the network's."""

    num_layers = 3

    def __init__(self):
        self.outputs = ["y"]
        self.marks = []

    @property
    def num_outputs(self):
        return len(self.outputs)

    def get_output(self, index):
        return SimpleNamespace(name=self.outputs[index])

    def get_layer(self, index):
        made = SimpleNamespace(name=("a", "b", "y")[index])
        return SimpleNamespace(num_outputs=1, get_output=lambda slot: made)

    def mark_output(self, tensor):
        self.outputs.append(tensor.name)

    def mark_debug(self, tensor):
        self.marks.append(tensor.name)
        return True


@pytest.fixture(params=[True, False], ids=["heeds", "ignores"])
def tensors(request, monkeypatch):
    """Tensors of an engine whose runtime heeds debug marks, or ignores them as TensorRT-RTX 1.4 does on an H100."""
    built = []

    def build(*given, on_network, **options):
        built.append(Network())
        on_network(built[-1])
        return SimpleNamespace(plan=b"")

    class Execution:
        listener = None

        def set_debug_listener(self, listener):
            self.listener = listener
            return True

        def set_all_tensors_debug_state(self, state):
            return True

        def execute_async_v3(self, stream):
            for name in built[-1].marks if request.param else ():
                self.listener.shown(name)
            return True

    class Listener:
        def __init__(self, shown):
            self.shown = lambda name: shown.update({name: np.zeros(1)})

    runtime = SimpleNamespace(
        load=lambda: SimpleNamespace(Runtime=lambda logger: None),
        logger=lambda: None,
        deserialise=lambda *given: SimpleNamespace(create_execution_context=Execution),
    )
    monkeypatch.setattr(trt_debug, "trt_build", SimpleNamespace(build=build))
    monkeypatch.setattr(trt_debug, "trt_runtime", runtime)
    monkeypatch.setattr(trt_debug, "cuda_answer", lambda: True)
    monkeypatch.setattr(trt_debug, "_listener", lambda trt, shown: Listener(shown))
    stream = SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(
        TensorRTTensors, "_bind", lambda self, engine, execution: {n: torch.zeros(1) for n in built[-1].outputs}
    )
    made = TensorRTTensors("model.onnx", Precision.FP16, "CASE", {}, show="auto")
    made.heeds, made.built = request.param, built
    return made


def test_an_output_that_is_shown_anyway_does_not_hide_that_marks_are_ignored(tensors):
    """A search shows what is wrong, an output to begin with, beside every tensor that it marks."""
    assert dict(tensors.values(["a", "y"])).keys() == {"a", "y"}
    assert len(tensors.built) == (1 if tensors.heeds else 2)
    assert (tensors.without_debug is None) == tensors.heeds
    if not tensors.heeds:
        assert tensors.without_debug == "The engine of CASE showed none of the 1 tensors that were marked."
    dict(tensors.values(["b", "y"]))
    assert tensors.built[-1].outputs == (["y"] if tensors.heeds else ["y", "b"])


def test_outputs_alone_need_no_mark(tensors):
    assert dict(tensors.values(["y"])).keys() == {"y"}
    assert (len(tensors.built), tensors.without_debug) == (1, None)


def test_a_tensor_that_the_network_does_not_name_is_left_out(tensors):
    assert dict(tensors.values(["merged", "y"])).keys() == {"y"}
    assert tensors.without_debug is None


def test_marks_that_were_asked_for_and_are_ignored_are_an_error(tensors):
    tensors._show = "debug"
    if tensors.heeds:
        assert dict(tensors.values(["a", "y"])).keys() == {"a", "y"}
    else:
        with pytest.raises(InspectionError, match="showed none of the 1 tensors"):
            dict(tensors.values(["a", "y"]))
