"""What `trtgate bisect` says of a fault that goes away when somebody looks."""

import json

from trtgate.commands.bisect_words import Words, sentences
from trtgate.measure.bisect import Bisection
from trtgate.measure.bisect_search import Culprit, Masking
from trtgate.measure.tensor_error import TensorError


def tensor(name, error):
    return TensorError(name, error, 0, -0.2128, 0.4601, "FLOAT16")


def test_a_fusion_is_blamed_and_not_the_reshape_behind_it():
    culprit = Culprit(
        "node_view",
        "Reshape",
        tensor("view", 6.76e-2),
        inputs=(),
        masking=(Masking("node_mean_16", "ReduceMean", tensor("mean_16", 1.04e-3)),),
    )
    first, output, fused, *_ = sentences(culprit, "CASE", 1e-2)
    assert first.startswith(
        "CASE: the fault is in a fusion. The error shows at node 'node_view' (Reshape), and goes away"
    )
    assert output == "  output 'view' FLOAT16, in the reference from -0.2128 to 0.4601: relative error 6.76e-02"
    assert fused.startswith("  fused  'mean_16' FLOAT16")
    assert fused.endswith("relative error 1.04e-03, made by 'node_mean_16' (ReduceMean)")


def test_a_node_is_blamed_that_is_wrong_whoever_looks():
    culprit = Culprit("scores", "MatMul", tensor("s", 0.5), inputs=(tensor("query", 1e-4),))
    first, *_ = sentences(culprit, "CASE", 1e-2)
    assert first == "CASE: the error jumps at node 'scores' (MatMul)."


def test_a_fault_that_comes_and_goes_is_told_as_that():
    wrong = tensor("logits", 0.2)
    found = {
        0: Bisection(None, (tensor("logits", 1e-4),)),
        3: Bisection(None, (wrong,), {"logits": wrong}, 4, "logits"),
    }
    words = Words("CASE", 1e-2, found, None, "", ["No debug tensors."])
    text = words.as_text()
    assert "'logits' was wrong in one build of the engine and right in the next" in text
    assert "1 tensors of seed 3 were compared in 4 runs" in text
    told = json.loads(words.as_json())
    assert (told["unstable"], told["seeds"], told["seed"], told["worst"]) == ("logits", [0, 3], 3, 0.2)
    assert told["notes"] == ["No debug tensors."]
    assert [one["tensor"] for one in told["compared"]] == ["logits"]


def test_a_search_that_was_cut_off_says_so():
    culprit = Culprit(
        "n", "Relu", tensor("y", 0.5), (), masking=(Masking("m", "MatMul", tensor("x", 0.0)),), cut_off=True
    )
    assert any("Other tensors of the fusion were not tried" in line for line in sentences(culprit, "CASE", 1e-2))


def test_a_search_that_was_stopped_tells_what_is_known():
    wrong = tensor("view", 0.2)
    found = Bisection(None, (tensor("logits", 0.2),), {"view": wrong}, 4, stopped_at=wrong)
    words = Words("CASE", 1e-2, {0: found}, None, "", ())
    text = words.as_text()
    assert text.startswith("CASE: the search was stopped after 4 runs. So far 'view' FLOAT16")
    assert "the fault is in what makes this tensor, or before it" in text
    assert json.loads(words.as_json())["stopped_at"]["tensor"] == "view"
