"""Candidates that answer differently from run to run, as engines do that are built again for what they are to show."""

from contextlib import contextmanager
from itertools import count

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_bisect import DEPTH, Faulty, FaultyFusion, chain

from trtgate.backends.onnxruntime_intermediates import OnnxRuntimeTensors
from trtgate.measure.bisect import bisect
from trtgate.measure.bisect_search import spread
from trtgate.measure.bisect_watch import Doing, unwatched

INPUTS = {"t0": np.random.default_rng(4).standard_normal((4, 16)).astype(np.float32)}


class Choice:
    """A candidate for each run: ``choose`` says which, from the number of the run and what it is to show."""

    def __init__(self, choose):
        self.choose = choose
        self.runs = count()

    def values(self, tensors):
        return self.choose(next(self.runs), set(tensors)).values(tensors)


@pytest.fixture(scope="module")
def model():
    return chain()


def found_by(model, candidate, **options):
    return bisect(model, candidate, OnnxRuntimeTensors(model, INPUTS), limit=1e-3, **options)


def with_faults(model, *weights):
    """Several planted at once."""
    for weight in weights:
        model = Faulty(model, weight, INPUTS).model
    return OnnxRuntimeTensors(model, INPUTS)


@pytest.mark.parametrize("at_once", [1, 3, 16, 100])
def test_of_two_faults_an_innocent_node_is_never_named(model, at_once):
    """The first goes away where m9 is shown, so that right and wrong values come from different engines."""
    both, second = with_faults(model, "w9", "w15"), with_faults(model, "w15")
    found = found_by(model, Choice(lambda run, shown: second if "m9" in shown else both), at_once=at_once)
    assert (found.culprit.node, [one.node for one in found.culprit.masking]) in (
        ("relu9", ["product9"]),
        ("product15", []),
    )


@pytest.mark.parametrize("wrong_runs", [1, 2])
def test_a_fault_of_some_builds_alone_is_not_blamed_on_a_fusion(model, wrong_runs):
    wrong, right = with_faults(model, "w9"), with_faults(model)
    found = found_by(model, Choice(lambda run, shown: wrong if run < wrong_runs else right))
    assert found.culprit is None
    assert found.unstable


def test_a_fault_that_lasts_until_it_is_found_is_named(model):
    wrong, right = with_faults(model, "w9"), with_faults(model)
    found = found_by(model, Choice(lambda run, shown: wrong if run < 3 else right))
    assert (found.culprit.node, found.culprit.masking) == ("product9", ())


@pytest.mark.parametrize("at_once", [1, 2, 3, 16])
def test_a_fusion_of_many_tensors_is_told_and_that_the_search_was_cut_off(model, at_once):
    fused = [name for node in model.graph.node for name in node.output][12:-1]
    found = found_by(model, FaultyFusion(model, "w9", INPUTS, fused), at_once=at_once)
    assert found.culprit.node == "relu19"
    assert len(found.culprit.masking) >= 8
    assert found.culprit.cut_off
    assert not any(one.wrong(1e-3) for one in found.culprit.inputs)
    assert found.probes <= 24


@pytest.mark.parametrize("at_once", [1, 2, 3, 16])
def test_the_number_of_runs_grows_as_the_logarithm(model, at_once):
    assert found_by(model, Faulty(model, "w9", INPUTS), at_once=at_once).probes <= 12
    assert found_by(model, FaultyFusion(model, "w9", INPUTS, ["m9"]), at_once=at_once).probes <= 16


def test_what_took_the_fault_away_is_left_for_last_where_the_search_goes_on():
    """Twenty in the middle of a long model: each is a run, and was tried again for each of those behind it."""
    nodes = [helper.make_node("Neg", [f"u{i}" if i else "x"], [f"u{i + 1}"], name=f"n{i}") for i in range(239)]
    wrong, masking = {f"u{i}" for i in range(174, 240)}, {f"u{i}" for i in range(154, 174)}

    class Candidate:
        def values(self, tensors):
            faulty = wrong if masking.isdisjoint(tensors) else ()
            return iter([(name, np.full(4, 1.5 if name in faulty else 1.0)) for name in tensors])

    class Reference:
        def values(self, tensors):
            return iter([(name, np.ones(4)) for name in tensors])

    found = bisect(of(nodes, outputs=("u239",)), Candidate(), Reference(), limit=1e-3)
    assert found.culprit.output.tensor == "u174"
    assert found.probes <= 60  # 256 where each is tried again


def test_what_takes_the_fault_of_another_tensor_away_is_not_blamed_unseen(model):
    """m9 takes the fault away beside the output; beside t10, which is wrong too, it is wrong itself."""
    wrong, right = with_faults(model, "w9"), with_faults(model)
    hides = {"m9", f"t{DEPTH}"}
    choose = Choice(lambda run, shown: right if hides <= shown and "t10" not in shown else wrong)
    for at_once in (1, 3, 16):
        found = found_by(model, choose, at_once=at_once)
        assert (found.culprit.node, found.culprit.masking) == ("product9", ())


def test_each_run_is_told_before_it_starts(model):
    told, running = [], []

    @contextmanager
    def watch(run):
        told.append(run)
        running.append(run.number)
        yield
        running.pop()

    class Watched(FaultyFusion):
        def values(self, tensors):
            assert running == [told[-1].number]
            assert len(tensors) == told[-1].shown
            return super().values(tensors)

    found = found_by(model, Watched(model, "w9", INPUTS, ["m9"]), watch=watch)
    assert [run.number for run in told] == list(range(1, found.probes + 1))
    assert told[0].doing == "looking at the model's outputs"
    assert {run.doing for run in told[1:]} >= {Doing.NARROWING, Doing.ASKING, Doing.REPEATING}


def test_the_callers_own_input_takes_no_run(model):
    told = []
    found = found_by(model, Faulty(model, "w0", INPUTS), watch=lambda run: told.append(run) or unwatched(run))
    assert [one.tensor for one in found.culprit.inputs] == ["t0"]
    assert found.probes == len(told)


@pytest.mark.parametrize("allowed", [1, 2, 4])
def test_a_search_that_is_stopped_tells_the_first_wrong_tensor_so_far(model, allowed):
    candidate = Faulty(model, "w9", INPUTS)
    found = found_by(model, candidate, at_once=1, max_runs=allowed)
    assert (found.culprit, found.unstable, found.probes) == (None, "", allowed)
    assert found.stopped_at.wrong(1e-3)
    wrong = [one.tensor for one in found.seen.values() if one.wrong(1e-3)]
    assert found.stopped_at.tensor == wrong[-1]
    assert found_by(model, candidate, at_once=1, max_runs=99).stopped_at is None


def test_a_run_in_which_another_tensor_is_wrong_counts(model):
    """What was wrong first may be right where an earlier fault shows instead."""
    late, early = with_faults(model, "w15"), with_faults(model, "w3")

    class Swaps:
        def values(self, tensors):
            if set(tensors) == {f"t{DEPTH}"}:
                return late.values(tensors)
            shown = dict(early.values(tensors))
            shown |= {f"t{DEPTH}": dict(OnnxRuntimeTensors(model, INPUTS).values([f"t{DEPTH}"]))[f"t{DEPTH}"]}
            return iter([(name, shown[name]) for name in tensors])

    assert found_by(model, Swaps()).culprit.node == "product3"


def test_an_output_that_is_shown_once_alone_does_not_stop_the_search(model):
    wrong = Faulty(model, "w9", INPUTS)

    class Once:
        def values(self, tensors):
            return wrong.values([name for name in tensors if name != f"t{DEPTH}" or len(tensors) == 1])

    assert found_by(model, Once()).culprit.node == "product9"


def of(nodes, weights=(), outputs=("y",)):
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4,))]
    ends += [helper.make_tensor_value_info(name, TensorProto.FLOAT, (4,)) for name in outputs]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def broken(model, name, values):
    other = onnx.ModelProto.FromString(model.SerializeToString())
    (weight,) = (one for one in other.graph.initializer if one.name == name)
    weight.CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), name))
    return other


def bisected(model, other):
    inputs = {"x": np.array([1, -2, 3, -4], np.float32)}
    return bisect(model, OnnxRuntimeTensors(other, inputs), OnnxRuntimeTensors(model, inputs), limit=1e-3)


def test_a_wrong_mask_is_named_and_not_what_it_selects():
    nodes = [
        helper.make_node("Greater", ["x", "bound"], ["mask"], name="compare"),
        helper.make_node("Where", ["mask", "x", "bound"], ["y"], name="select"),
    ]
    model = of(nodes, [numpy_helper.from_array(np.zeros(1, np.float32), "bound")])
    other = of(nodes, [numpy_helper.from_array(np.full(1, 2, np.float32), "bound")])
    assert bisected(model, other).culprit.node == "compare"


def test_an_output_that_depends_on_no_input_is_named():
    nodes = [helper.make_node("Neg", ["w"], ["z"], name="negate"), helper.make_node("Relu", ["x"], ["y"], name="relu")]
    model = of(nodes, [numpy_helper.from_array(np.ones(4, np.float32), "w")], outputs=("y", "z"))
    found = bisected(model, broken(model, "w", [1, 1, 1, 9]))
    assert (found.culprit.node, found.culprit.inputs) == ("negate", ())


def test_what_a_branch_reads_of_the_graph_around_it_is_followed():
    def branch(op):
        made = helper.make_tensor_value_info("made", TensorProto.FLOAT, (4,))
        return helper.make_graph([helper.make_node(op, ["s"], ["made"], name=f"inner_{op}")], op, [], [made])

    nodes = [
        helper.make_node("Mul", ["x", "w"], ["s"], name="scale"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch("Relu"), else_branch=branch("Neg")),
    ]
    weights = [numpy_helper.from_array(np.ones(4, np.float32), "w"), numpy_helper.from_array(np.array(True), "yes")]
    model = of(nodes, weights)
    assert bisected(model, broken(model, "w", [1, 1, 9, 1])).culprit.node == "scale"


def test_what_is_picked_lies_between_the_ends():
    names = [str(number) for number in range(30)]
    assert spread(names, 1) == ["15"]
    assert spread(names, 2) == ["10", "20"]
    assert spread(names, 30) == spread(names, 99) == names
    assert len(set(spread(names, 16))) == 16
