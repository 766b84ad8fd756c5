"""What counts as the optimiser doing worse."""

import copy

from trtgate.judge.census import compare_census_facts

BASE = {
    "kernels": 3,
    "casts": [],
    "reformats": ["move"],
    "compute": {
        "conv": {"layer": "conv_0", "datatype": "fp16", "work": 0.5},
        "q": {"layer": "q+k", "datatype": "fp16", "work": 0.25},
        "k": {"layer": "q+k", "datatype": "fp16", "work": 0.25},
    },
    "nodes": ["Conv conv", "Relu relu", "Add add", "MatMul q", "MatMul k"],
    "groups": {"conv_0": [0, 1, 2], "q+k": [3, 4]},
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
    groups = {"conv_0": [0, 1], "add_0": [2], "q+k": [3, 4]}
    assert changed(groups=groups) == ["kernel 'conv_0' came apart: 'conv' and 'relu' in 'conv_0'; 'add' in 'add_0'."]
    assert changed(groups={"everything": [0, 1, 2, 3, 4]}) == []


def test_a_merge_that_came_apart_is_found():
    found = changed(q={"layer": "q_0"}, k={"layer": "k_0"}, groups={"conv_0": [0, 1, 2], "q_0": [3], "k_0": [4]})
    assert found == ["kernel 'q+k' came apart: 'q' in 'q_0'; 'k' in 'k_0'."]


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


def test_a_margin_lets_numbers_grow_a_little_and_nothing_that_has_a_name():
    base = BASE | {"kernels": 20}
    assert compare_census_facts(base, base | {"kernels": 21}) == ["21 kernels instead of 20."]
    assert compare_census_facts(base, base | {"kernels": 22}, margin=0.1) == []
    assert compare_census_facts(base, base | {"kernels": 23}, margin=0.1) == ["23 kernels instead of 20."]
    wider = base | {"compute": BASE["compute"] | {"conv": {"layer": "conv_0", "datatype": "fp32", "work": 0.5}}}
    assert len(compare_census_facts(base, wider, margin=1.0)) == 1


def test_coverage_that_shrank_is_found():
    found = changed(coverage={"blocks": 2, "fell_back": ["aten.sort"]})
    assert len(found) == 2
    assert "aten.sort" in found[1]


def torch_tensorrt(datatypes, **fields):
    """Facts as a torch-tensorrt census has them: layers and datatypes, no nodes."""
    counts = {kind: list(datatypes.values()).count(kind) for kind in sorted(set(datatypes.values()))}
    return {"kernels": 3, "compute_layers": counts, "layer_datatypes": datatypes, **fields}


HALF = dict.fromkeys((f"conv_{i}" for i in range(20)), "fp16")


def test_wider_layers_are_found_where_no_node_is_known():
    base = torch_tensorrt(HALF)
    assert compare_census_facts(base, base) == []
    (sentence,) = compare_census_facts(base, torch_tensorrt(HALF | {"conv_3": "fp32"}))
    assert sentence == "layers that multiply in fp32: 1 instead of 0 (conv_3)."
    (sentence,) = compare_census_facts(base, torch_tensorrt(dict.fromkeys(HALF, "fp32")))
    assert sentence.startswith("layers that multiply in fp32: 20 instead of 0 (conv_0, conv_1, ")
    assert compare_census_facts(torch_tensorrt(dict.fromkeys(HALF, "fp32")), base) == []
    (sentence,) = compare_census_facts(base, torch_tensorrt(HALF | {"conv_3": "unknown"}))
    assert "multiply in unknown: 1 instead of 0" in sentence
    # A history of before layers were named, and more layers of the same type.
    assert compare_census_facts({"compute_layers": {"fp16": 20}}, {"compute_layers": {"fp32": 20}}) == [
        "layers that multiply in fp32: 20 instead of 0."
    ]
    assert compare_census_facts({"compute_layers": {"fp16": 20}}, {"compute_layers": {"fp16": 24}}) == []
    mixed = {"compute_layers": {"fp16": 1, "fp8": 20}}
    assert compare_census_facts(mixed, {"compute_layers": {"fp16": 2, "fp8": 19}}) != []
    assert compare_census_facts(mixed, {"compute_layers": {"fp16": 1, "int8": 22}}) == []
    assert compare_census_facts(mixed, {"compute_layers": {}}) == []


def test_a_wider_share_is_found_where_nodes_were_renamed():
    base = {"share": {"fp16": 0.1, "fp8": 0.9}, "compute": {"a": BASE["compute"]["conv"]}}
    head = {"share": {"fp16": 0.3, "fp8": 0.7}, "compute": {"b": BASE["compute"]["conv"]}}
    assert compare_census_facts(base, head) == ["30.0% of the work runs in fp16 instead of 10.0%."]
    assert compare_census_facts(head, base) == []
    assert compare_census_facts({"share": {"fp16": 1.0}}, {"share": {"fp16": 0.9, "unknown": 0.1}}) != []
    # Named by node, it is not said again as a share.
    (sentence,) = changed(conv={"datatype": "fp32"}, share={"fp32": 0.5, "fp16": 0.5})
    assert "node 'conv'" in sentence
