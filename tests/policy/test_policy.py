"""What a policy file may not say, and whether the message names the mistake that was made."""

import re

import pytest

from trtgate.errors import PolicyError
from trtgate.policy import load

FLOOR = {
    "gpu": '"*"',
    "quantity": '"device"',
    "baseline": '"eager"',
    "workload": '"resnet18"',
    "backend": '"tensorrt_engine"',
    "precision": '"fp16"',
    "shape": '"b1"',
    "at_least": "1.5",
    "reason": '"measured"',
}


def floor(heading="[[floor]]", renamed=None, **changed):
    keys = {(renamed or {}).get(key, key): value for key, value in {**FLOOR, **changed}.items()}
    return "\n".join([heading, *(f"{key} = {value}" for key, value in keys.items())])


def refusal(tmp_path, text):
    path = tmp_path / "trtgate.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load(path)
    return str(caught.value)


def failing(error=""):
    return f'[[known_failure]]\ncase = "*"\nstage = "run"\nruntime = "*"\nreason = "x"\n{error}'


def test_the_floor_that_the_others_are_made_from_is_good(tmp_path):
    path = tmp_path / "trtgate.toml"
    path.write_text(floor())
    assert load(path).floor[0].shape == "b1"


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        (floor(renamed={"shape": "shap"}), "floor.0.shap", "shape"),
        (floor(renamed={"at_least": "atleast"}), "floor.0.atleast", "at_least"),
        ("[parity.tolerance.fp16]\nfacter = 3.0\nfloor = 1e-3", "parity.tolerance.fp16.facter", "factor"),
        (failing('error="some words"').replace("case", "cse"), "known_failure.0.cse", "case"),
        ("[measure]\nmin_round = 5", "measure.min_round", "min_rounds"),
        ('[flor]\ngpu="*"', "flor", "floor"),
    ],
)
def test_a_misspelt_key_is_named_with_the_one_that_was_meant(tmp_path, text, key, meant):
    assert f"unknown key '{key}'. Did you mean '{meant}'?" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n".join([floor(), *floor().splitlines()[:-1]]), "[[floor]] number 2 needs 'reason'. Add that key."),
        ("[parity.tolerance.fp16]\nfloor = 1e-3", "[parity.tolerance.fp16] needs 'factor'. Add that key."),
        (floor(heading="[floor]"), "[floor] is one table where several may stand. Write [[floor]]."),
        ("[[parity]]\nbatches = 4", "[[parity]] is a list of tables where one may stand. Write [parity]."),
        ('[judge]\npasses = ["faster"]', "judge: 'passes' must hold 'same'"),
        (failing(), "[[known_failure]] number 1 needs 'error'. Add that key."),
        (failing('error = "bug"'), "known_failure.0.error is 'bug': words of at least 4 letters tell"),
        (failing("error = []"), "known_failure.0.error is []: words of at least 4 letters tell"),
        ("[measure]\nmin_rounds = 1", "measure.min_rounds is 1: Input should be greater than or equal to 5."),
        ("[parity.tolerance.fp23]\nfactor=1\nfloor=1", "is 'fp23': Input should be 'fp32'"),
    ],
)
def test_other_mistakes_are_told_in_the_words_of_the_file(tmp_path, text, says):
    found = refusal(tmp_path, text)
    assert says in found
    assert not re.search(r"\{|Field required|Value error", found)


@pytest.mark.parametrize("quantity", ["throughput", "build", "plan", "memory", "parity", "optimisation"])
def test_a_floor_on_what_has_no_speedup_is_refused(tmp_path, quantity):
    assert f"floor.0.quantity is '{quantity}': speedups are measured in 'device' and 'latency' alone" in refusal(
        tmp_path, floor(quantity=f'"{quantity}"')
    )


@pytest.mark.parametrize("shape", ["batch 1", "b0", "b01", "B1", "1", "b1s", "b1s0", "b1-graph", "", "b1 "])
def test_a_floor_on_a_shape_that_no_case_has_is_refused(tmp_path, shape):
    assert f"floor.0.shape is '{shape}': no case has such a shape" in refusal(tmp_path, floor(shape=f'"{shape}"'))


def test_fewer_batches_than_are_compared_are_refused(tmp_path):
    assert "parity.batches is 3: Input should be greater than or equal to 4." in refusal(
        tmp_path, "[parity]\nbatches = 3"
    )
