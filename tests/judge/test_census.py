"""What counts as the optimiser doing worse."""

import copy

from trtgate.judge.census import compare_census_facts

BASE = {
    "kernels": 3,
    "casts": [],
    "reformats": ["move"],
    "compute": {
        "conv": {"layer": "conv_0", "datatype": "fp16", "work": 0.5, "fused": ["relu", "add"]},
        "q": {"layer": "q+k", "datatype": "fp16", "work": 0.25, "fused": ["k"]},
        "k": {"layer": "q+k", "datatype": "fp16", "work": 0.25, "fused": ["q"]},
    },
    "constants_left": [],
    "duplicates_left": [],
    "dead_left": [],
    "violations": [],
    "counts": {"attention_kernels": 1},
    "coverage": {"blocks": 1, "fell_back": []},
}


def changed(**fields):
    head = copy.deepcopy(BASE)
    for name, value in fields.items():
        if name in head["compute"]:
            head["compute"][name] |= value
        else:
            head[name] = value
    return compare_census_facts(BASE, head)


def test_equal_facts_are_no_regression():
    assert changed() == []
    assert compare_census_facts({}, BASE) == []
    assert compare_census_facts(BASE, {}) == []


def test_a_wider_datatype_names_node_and_layer():
    assert changed(conv={"datatype": "fp32"}) == ["node 'conv' (layer 'conv_0') runs in fp32; it ran in fp16."]
    assert changed(conv={"datatype": "unknown"}) != []
    assert changed(conv={"datatype": "fp8"}) == []
    assert changed(conv={"datatype": "bf16"}) == []


def test_a_lost_fusion_names_what_is_no_longer_taken_in():
    (sentence,) = changed(conv={"fused": ["relu"]})
    assert "no longer takes in add" in sentence
    assert changed(conv={"fused": ["relu", "add", "more"]}) == []


def test_a_merge_that_came_apart_is_found():
    found = changed(q={"layer": "q_0", "fused": []}, k={"fused": []})
    assert any("'q' and 'k' were merged" in sentence for sentence in found)


def test_a_layer_that_vanished_is_found():
    (sentence,) = changed(conv={"layer": None, "datatype": "unknown"})
    assert "claimed by no layer" in sentence


def test_more_kernels_casts_and_leftovers_are_found():
    assert changed(kernels=4) == ["4 kernels instead of 3."]
    assert changed(kernels=2) == []
    assert changed(casts=["cast_0"]) == ["1 casts instead of 0 (cast_0)."]
    assert changed(reformats=["other"]) == []
    assert changed(constants_left=["a"]) == ["new constant that is computed at each inference: a."]
    assert changed(duplicates_left=["b"]) == ["new duplicate that is computed again: b."]
    assert changed(violations=["graph optimisation: x"]) != []
    assert changed(counts={"attention_kernels": 3}) == ["attention kernels: 3 instead of 1."]
    assert changed(counts={"attention_kernels": 1, "new": 9}) == []


def test_coverage_that_shrank_is_found():
    found = changed(coverage={"blocks": 2, "fell_back": ["aten.sort"]})
    assert len(found) == 2
    assert "aten.sort" in found[1]
