"""What `trtgate bisect` says of a fault that goes away when somebody looks."""

from trtgate.commands.bisect import _sentences
from trtgate.measure.bisect import Culprit, Masking, TensorError


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
    first, output, fused, *_ = _sentences(culprit, "CASE", 1e-2)
    assert first.startswith(
        "CASE: the fault is in a fusion. The error shows at node 'node_view' (Reshape), and goes away"
    )
    assert output == "  output 'view' FLOAT16, in the reference from -0.2128 to 0.4601: relative error 6.76e-02"
    assert fused.startswith("  fused  'mean_16' FLOAT16")
    assert fused.endswith("relative error 1.04e-03, made by 'node_mean_16' (ReduceMean)")


def test_a_node_is_blamed_that_is_wrong_whoever_looks():
    culprit = Culprit("scores", "MatMul", tensor("s", 0.5), inputs=(tensor("query", 1e-4),))
    first, *_ = _sentences(culprit, "CASE", 1e-2)
    assert first == "CASE: the error jumps at node 'scores' (MatMul)."
