"""Rules of a policy that no case can meet: they are refused, and what was meant is named."""

from pathlib import Path

import pytest

from trtgate.errors import PolicyError
from trtgate.policy import Floor, Policy, load
from trtgate.workloads import micro_models, registry
from trtgate.workloads.known import Known
from trtgate.workloads.possible_rules import require_possible

ROOT = Path(__file__).parents[2]
OURS = registry.known()
FILE = "some.toml"


def policy(tmp_path, text):
    (tmp_path / "trtgate.toml").write_text(text)
    return load(tmp_path / "trtgate.toml")


def floor(workload, shape):
    floor = {"gpu": "*", "quantity": "device", "baseline": "eager", "backend": "inductor", "precision": "fp16"}
    return Policy(floor=(Floor(**floor, workload=workload, shape=shape, at_least=1, reason="x"),))


@pytest.mark.parametrize(
    ("workload", "shape", "says"),
    [
        ("resnet81", "b1", r"\[\[floor\]\] number 1: Unknown workload 'resnet81'\. Did you mean 'resnet18'\?"),
        ("transformer", "b8", r"shape 'b8', and transformer has a sequence length\. Write its shape as 'b8s128'"),
        ("resnet18", "b8s128", r"'b8s128', and resnet18 has no sequence length\. Write its shape as 'b8'"),
    ],
)
def test_a_floor_that_no_case_can_meet_is_refused(workload, shape, says):
    with pytest.raises(PolicyError, match=says):
        require_possible(floor(workload, shape), FILE, OURS)


@pytest.mark.parametrize(("workload", "shape"), [("resnet18", "b8"), ("transformer", "b1s512")])
def test_a_floor_on_a_case_that_exists_is_kept(workload, shape):
    require_possible(floor(workload, shape), FILE, OURS)


MARGIN = '[[judge.case_margin]]\ncase = "{}"\nquantity = "device"\nmargin = 0.1\nreason = "x"'
FAILURE = '[[known_failure]]\ncase = ["*", "{}"]\nstage = "run"\nerror = "words"\nruntime = "*"\nreason = "x"'
EXPLAINED = '[[optimisation.explained]]\ncase = "{}"\nnode = "*"\ndatatype = "fp32"\nreason = "x"'
LAYERS = '[[optimisation.layer_floor]]\nworkload = "{}"\nnodes_per_layer = 1.0\nreason = "x"'
CONSTANTS = '[[optimisation.constant_limit]]\nworkload = "{}"\nat_most = 1\nreason = "x"'
MERGED = '[[optimisation.merge_limit]]\nmodel = "{}"\nat_most = 1\nreason = "x"'
NOISE = '[[parity.sqnr_floor]]\nworkload = "{}"\nat_least_db = 9.0\nreason = "x"'
GATE = '[gate]\ncases = ["{}"]'


@pytest.mark.parametrize(
    ("table", "pattern", "where", "meant"),
    [
        (FAILURE, "resnet81-*", "[[known_failure]] number 1", "resnet18"),
        (MARGIN, "resnt*", "[[judge.case_margin]] number 1", "resnet50"),
        (EXPLAINED, "*-tensorrt_engin-bf16-*", "[[optimisation.explained]] number 1", "tensorrt_engine"),
        (LAYERS, "resnet81", "[[optimisation.layer_floor]] number 1", "resnet18"),
        (CONSTANTS, "swint_t", "[[optimisation.constant_limit]] number 1", "swin_t"),
        (MERGED, "parallel_matmul", "[[optimisation.merge_limit]] number 1", "parallel_matmuls"),
        (NOISE, "resnet81", "[[parity.sqnr_floor]] number 1", "resnet18"),
        (GATE, "resnet81-eager-fp16-b8-graph", "Case number 1 of [gate]", "resnet18"),
        (MARGIN, "resnet18-*-f16-*", "[[judge.case_margin]] number 1", "fp16"),
        (FAILURE, "*-eager-*-b8-grahp", "[[known_failure]] number 1", "graph"),
    ],
)
def test_a_name_that_does_not_exist_is_refused_with_the_nearest(tmp_path, table, pattern, where, meant):
    with pytest.raises(PolicyError) as caught:
        require_possible(policy(tmp_path, table.format(pattern)), FILE, OURS)
    assert str(caught.value).startswith(f"{FILE}: {where}")
    assert pattern.partition("-")[0] in str(caught.value)
    assert f"Did you mean '{meant}'?" in str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "resnet18",  # no case ends there
        "resnet18-*-b8s128-*",  # it has no sequence
        "transformer-*-b8-*",  # it has one
        "*-b0-*",
        "*-b08-*",
        "resnet18-eager-fp16-b8-graph-warm",  # warm is not spelt
        "Resnet18-*",
        "",
    ],
)
def test_a_pattern_whose_words_all_exist_must_still_fit_a_case(tmp_path, pattern):
    with pytest.raises(PolicyError, match=r"there can be none.*Write workload-backend-precision-shape-execution"):
        require_possible(policy(tmp_path, MARGIN.format(pattern)), FILE, OURS)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "resnet*-fp8-*",
        "*18*",
        "resnet18-eager-fp16-b8-graph",
        "resnet18-eager-fp16-b4096-stream-cold",
        "*-cold",
        "transformer-*-b1s77-*",
        "*-b?2-*",
        "resnet[15]?-t*-[!b]*-b1[0-9]-graph",
        "conv_block-tensorrt_engine-fp16-b1-stream",  # a micro model
        "*s512*",
    ],
)
def test_a_pattern_that_some_case_fits_is_kept(tmp_path, pattern):
    for table in (MARGIN, FAILURE, EXPLAINED):
        require_possible(policy(tmp_path, table.format(pattern)), FILE, OURS)


def test_the_projects_own_workloads_count(tmp_path):
    project = Known({**OURS.tokens, "detector": None, "reader": 64, "made": 0}, ("detector", "reader", "made"))
    for pattern in ("detector-*-b8-*", "reader-*-b8s64-*", "made-*-b8-*", "made-*-b8s16-*", "det*"):
        require_possible(policy(tmp_path, MARGIN.format(pattern)), FILE, project)
    require_possible(floor("made", "b1"), FILE, project)
    require_possible(floor("made", "b1s16"), FILE, project)
    with pytest.raises(PolicyError, match="Did you mean 'detector'"):
        require_possible(policy(tmp_path, MARGIN.format("detectr-*")), FILE, project)


def test_what_is_not_known_is_no_mistake_and_the_rest_still_is(tmp_path):
    partly = Known(OURS.tokens, complete=False)
    for table, name in ((MARGIN, "detector-*"), (LAYERS, "detector"), (GATE, "detector-eager-fp16-b8s1-graph")):
        require_possible(policy(tmp_path, table.format(name)), FILE, partly)
    require_possible(floor("detector", "b1s16"), FILE, partly)
    with pytest.raises(PolicyError, match="Did you mean 'eager'"):
        require_possible(policy(tmp_path, MARGIN.format("detector-eagre-*")), FILE, partly)


def test_what_one_side_of_a_gate_has_is_possible(tmp_path):
    base, head = Known({"old": None}), Known({"new": None})
    both = policy(tmp_path, MARGIN.format("old-*") + "\n" + MARGIN.format("new-*"))
    require_possible(both, FILE, base, head)
    with pytest.raises(PolicyError, match=r"number 2 .*'new-\*'"):
        require_possible(both, FILE, base)
    with pytest.raises(PolicyError, match=r"'odd-\*'"):
        require_possible(policy(tmp_path, MARGIN.format("odd-*")), FILE, base, head)


def test_the_rules_of_this_repository_are_of_cases_that_exist():
    held = load(ROOT / "trtgate.toml")
    assert held.floor
    assert held.known_failure
    assert held.optimisation.layer_floor
    require_possible(held, FILE, OURS)


def test_the_micro_models_that_rules_may_name_are_those_that_exist():
    assert set(registry.MICRO_MODELS) == micro_models.known()
