"""The micro models are valid ONNX, equal at every call, and compute something."""

import numpy as np
import onnx
import onnxruntime
import pytest

from trtgate.case import Precision
from trtgate.errors import UnknownValueError, UnsupportedCaseError
from trtgate.workloads import micro_models

ALL = [*micro_models.names(), "overflow"]


@pytest.mark.parametrize("name", ALL)
def test_models_are_equal_at_every_call_and_in_files(name, tmp_path):
    model = micro_models.get(name)
    for precision in model.precisions:
        path = model.write(tmp_path, precision)
        assert path.name == f"{name}_{precision}.onnx"
        assert onnx.load(path) == model.model(precision)
        stated = {node.name for node in onnx.load(path).graph.node}
        claimed = {node for group in model.one_layer for node in group} | {
            *model.attention,
            *model.merged,
            *model.absent,
        }
        assert claimed <= stated


@pytest.mark.parametrize("name", micro_models.names())
def test_outputs_are_finite_and_vary(name, tmp_path):
    path = micro_models.get(name).write(tmp_path, Precision.FP32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    inputs = {one.name: random.standard_normal(one.shape).astype(np.float32) for one in session.get_inputs()}
    for output in session.run(None, inputs):
        assert np.isfinite(output).all()
        assert output.std() > 0.01


def test_unknown_names_and_precisions_are_refused():
    with pytest.raises(UnknownValueError, match="Did you mean 'attention'"):
        micro_models.get("attentoin")
    with pytest.raises(UnsupportedCaseError, match="no int8 form"):
        micro_models.get("attention").model(Precision.INT8)
