"""A fusion that is lost is told by layer, whichever operators it held and however they are called now."""

import copy
import json

import pytest

from trtgate.judge.census import compare_census_facts
from trtgate.judge.fusion import lost_fusions
from trtgate.judge.optimised import judge_census
from trtgate.judge.verdict import Verdict

# A product, and a normalisation behind it that holds no product at all.
NODES = ["MatMul mm", "Add bias", "ReduceMean mean", "Sub centre", "Sqrt root", "Div normalise", "Erf gelu"]
BASE = {"kernels": 3, "nodes": NODES, "groups": {"mm_0": [0, 1], "norm_1": [2, 3, 4, 5], "gelu_2": [6]}}


def head(**fields):
    return copy.deepcopy(BASE) | fields


def test_a_kernel_without_a_product_that_is_split_is_named_with_its_parts():
    split = head(kernels=4, groups={"mm_0": [0, 1], "norm_1": [2, 3], "norm_2": [4, 5], "gelu_3": [6]})
    apart = "kernel 'norm_1' came apart: 'mean' and 'centre' in 'norm_1'; 'root' and 'normalise' in 'norm_2'."
    assert compare_census_facts(BASE, split) == [apart, "4 kernels instead of 3."]
    assert judge_census(BASE, split).verdict is Verdict.SLOWER
    assert judge_census(split, BASE).verdict is Verdict.FASTER


def test_an_operator_that_moved_to_the_next_kernel_is_found_though_as_many_kernels_are_left():
    moved = head(groups={"mm_0": [0], "norm_1": [1, 2, 3, 4, 5], "gelu_2": [6]})
    assert lost_fusions(BASE, moved) == ["kernel 'mm_0' came apart: 'mm' in 'mm_0'; 'bias' in 'norm_1'."]


def test_an_operator_that_no_kernel_claims_any_more_is_found():
    dropped = head(groups={"mm_0": [0], "norm_1": [2, 3, 4, 5]})
    assert lost_fusions(BASE, dropped) == [
        "kernel 'mm_0' came apart: 'mm' in 'mm_0'; 'bias' in no kernel that is told.",
        "node 'gelu' is claimed by no kernel any more; it ran in 'gelu_2'.",
    ]
    # Of a product, the datatypes tell it.
    alone = {"nodes": ["MatMul mm"], "compute": {"mm": {"layer": "mm_0", "datatype": "fp16", "work": 1.0}}}
    gone = {"mm": {"layer": None, "datatype": "unknown", "work": 1.0}}
    found = compare_census_facts(alone | {"groups": {"mm_0": [0]}}, alone | {"groups": {}, "compute": gone})
    assert found == ["node 'mm' is claimed by no layer any more; it was layer 'mm_0'."]


def test_nodes_that_were_renamed_are_told_apart_by_operator_and_order():
    """An exporter numbers its nodes, and another release numbers them otherwise."""
    renamed = [f"{node.split()[0]} node_{number}" for number, node in enumerate(NODES)]
    assert lost_fusions(BASE, head(nodes=renamed)) == []
    singly = head(nodes=renamed, groups={f"kernel_{i}": [i] for i in range(7)})
    (first, second) = lost_fusions(BASE, singly)
    assert first == "kernel 'mm_0' came apart: 'node_0' in 'kernel_0'; 'node_1' in 'kernel_1'."
    assert second.startswith("kernel 'norm_1' came apart: 'node_2' in 'kernel_2'; 'node_3' in 'kernel_3'; ")


def test_in_a_graph_that_changed_a_node_is_found_by_its_name_or_as_the_only_one_of_its_kind():
    longer = ["Relu new", *NODES[:4], "Sqrt another_root", *NODES[5:]]
    groups = {"new": [0], "mm_0": [1, 2], "norm_1": [3, 4, 6], "root_2": [5], "gelu_3": [7]}
    (sentence,) = lost_fusions(BASE, head(nodes=longer, groups=groups))
    assert sentence == (
        "kernel 'norm_1' came apart: 'mean', 'centre' and 'normalise' in 'norm_1'; 'another_root' in 'root_2'."
    )
    # Two of one operator, and one before: which it is cannot be told, and nothing is said of it.
    two = [*longer, "Sqrt third_root"]
    assert lost_fusions(BASE, head(nodes=two, groups=groups | {"root_4": [8]})) == []


def test_a_single_node_that_runs_in_more_kernels_is_found():
    """A LayerNormalization is one node, and so is not told apart from others when its kernel is split."""
    overlapping = head(groups={"mm_0": [0, 1], "norm_1": [2, 3, 4], "norm_2": [4, 5], "gelu_3": [6], "gelu_4": [6]})
    assert lost_fusions(BASE, overlapping) == [
        "node 'root' runs in 2 kernels ('norm_1' and 'norm_2') instead of 1 ('norm_1').",
        "node 'gelu' runs in 2 kernels ('gelu_3' and 'gelu_4') instead of 1 ('gelu_2').",
    ]
    assert lost_fusions(overlapping, BASE) == []


@pytest.mark.parametrize("key", ["nodes", "groups"])
def test_what_only_one_side_tells_is_not_compared(key):
    less = {name: value for name, value in BASE.items() if name != key}
    assert lost_fusions(BASE, less) == lost_fusions(less, BASE) == []


def test_a_long_list_is_cut():
    groups = {"all": list(range(7))}
    apart = head(groups={"one": [0], "rest": list(range(1, 7))})
    (sentence,) = lost_fusions(head(groups=groups), apart)
    assert sentence == (
        "kernel 'all' came apart: 'mm' in 'one'; 'bias', 'mean', 'centre', 'root' and 2 more in 'rest'."
    )
    assert json.loads(json.dumps(apart)) == apart
