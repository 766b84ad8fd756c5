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


_FAILURE = '[[known_failure]]\ncase="*"\nstage="run"\nerror="words"\nreason="x"\n'


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
        (floor(renamed={"shape": "shap"}), "'shap' of [[floor]] number 1", "shape"),
        (floor(renamed={"at_least": "atleast"}), "'atleast' of [[floor]] number 1", "at_least"),
        ("[parity.tolerance.fp16]\nfacter = 3.0\nfloor = 1e-3", "'parity.tolerance.fp16.facter'", "factor"),
        (failing('error="some words"').replace("case", "cse"), "'cse' of [[known_failure]] number 1", "case"),
        ("[measure]\nmin_round = 5", "'measure.min_round'", "min_rounds"),
        ('[flor]\ngpu="*"', "'flor'", "floor"),
    ],
)
def test_a_misspelt_key_is_named_with_the_one_that_was_meant(tmp_path, text, key, meant):
    assert f"unknown key {key}. Did you mean '{meant}'?" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n".join([floor(), *floor().splitlines()[:-1]]), "[[floor]] number 2 needs 'reason'. Add that key."),
        ("[parity.tolerance.fp16]\nfloor = 1e-3", "[parity.tolerance.fp16] needs 'factor'. Add that key."),
        (floor(heading="[floor]"), "[floor] is one table where several may stand. Write [[floor]]."),
        ("[[parity]]\nbatches = 4", "[[parity]] is a list of tables where one may stand. Write [parity]."),
        ('[judge]\npasses = ["faster"]', "judge: 'passes' must hold 'same'"),
        ("[measure]\nmin_rounds = 1", "measure.min_rounds is 1, which is not at least 5. Correct that value."),
        ("[judge.margin]\ndevice = 0", "judge.margin.device is 0, which is not more than 0. Correct that value."),
        ("[judge.margin]\ndevice = 2", "judge.margin.device is 2, which is not at most 1. Correct that value."),
        ("[judge]\npower = 1", "judge.power is 1, which is not less than 1. Correct that value."),
        ("[measure]\nseconds = nan", "measure.seconds is nan, and a finite number is needed. Correct that value."),
        ('[measure]\nseconds = "x"', "measure.seconds is 'x', and a number is needed. Write it without quotes."),
        ("[measure]\nmin_rounds = 5.5", "min_rounds is 5.5, and a whole number is needed. Correct that value."),
        ('[gate]\ncases = "resnet18"', "gate.cases is 'resnet18', and a list is needed. Write it in [ ]."),
        ("[gate]\ncases = [3]", "gate.cases number 1 is 3, and text is needed. Write it in quotes."),
        ("measure = 3", "measure is 3, and a table is needed. Write its keys below a line with its name in [ ]."),
        (_FAILURE.replace('"*"', "3") + 'runtime="*"', "case of [[known_failure]] number 1 is 3, and text is needed."),
        (
            _FAILURE.replace('"x"', '""') + 'runtime="*"',
            "reason of [[known_failure]] number 1 is '', and some text is needed.",
        ),
        (
            _FAILURE.replace("run", "rnu") + 'runtime="*"',
            "stage of [[known_failure]] number 1 is 'rnu', which is not known. Did you mean 'run'? "
            "Use one of: build, parity, run, optimisation.",
        ),
        (
            "[parity.tolerance.fp23]\nfactor=1\nfloor=1",
            "unknown key 'parity.tolerance.fp23'. Did you mean 'fp32'? Known keys there: fp32, tf32, ",
        ),
        (
            "[optimisation.min_share]\nfp16 = 1\nfp99 = 1",
            "unknown key 'optimisation.min_share.fp99'. Known keys there: ",
        ),
        (failing(), "[[known_failure]] number 1 needs 'error'. Add that key."),
        (failing('error = "bug"'), "error of [[known_failure]] number 1 is 'bug': words of at least 4 letters tell"),
        (failing("error = []"), "error of [[known_failure]] number 1 is []: words of at least 4 letters tell"),
    ],
)
def test_other_mistakes_are_told_in_the_words_of_the_file(tmp_path, text, says):
    found = refusal(tmp_path, text)
    assert says in found
    assert not re.search(r"\{|Field required|Value error|Input should|tuple|dictionary|instance", found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[gate]\ncases = ", "Invalid value (at end of document). Look at its last lines, up to line 2: "),
        (b"[gate", "(at end of document). Look at its last lines, up to line 1: "),
        (b"x =\n[gate]\n", "Invalid value (at line 1, column 4). Mend that line."),
        (b"[gate]\n\xff", "is not text: its byte 7 is not UTF-8. Save it as UTF-8."),
    ],
)
def test_a_file_that_is_no_toml_is_told_where_to_look(tmp_path, text, says):
    (tmp_path / "trtgate.toml").write_bytes(text)
    with pytest.raises(PolicyError) as caught:
        load(tmp_path / "trtgate.toml")
    assert says in str(caught.value)


@pytest.mark.parametrize("quantity", ["throughput", "build", "plan", "memory", "parity", "optimisation"])
def test_a_floor_on_what_has_no_speedup_is_refused(tmp_path, quantity):
    assert (
        f"quantity of [[floor]] number 1 is '{quantity}': speedups are measured in 'device' and 'latency' alone"
        in refusal(tmp_path, floor(quantity=f'"{quantity}"'))
    )


@pytest.mark.parametrize("shape", ["batch 1", "b0", "b01", "B1", "1", "b1s", "b1s0", "b1-graph", "", "b1 "])
def test_a_floor_on_a_shape_that_no_case_has_is_refused(tmp_path, shape):
    assert f"shape of [[floor]] number 1 is '{shape}': no case has such a shape" in refusal(
        tmp_path, floor(shape=f'"{shape}"')
    )


def test_fewer_batches_than_are_compared_are_refused(tmp_path):
    assert "parity.batches is 3, which is not at least 4." in refusal(tmp_path, "[parity]\nbatches = 3")


_LAYERS = '[[optimisation.layer_floor]]\nworkload="*"\nnodes_per_layer=1\nreason="x"\n'
_TABLES = {
    "runtime of [[floor]] number 1": floor() + "\nruntime={}",
    "runtime of [[known_failure]] number 1": _FAILURE + "runtime={}",
    "architecture of [[known_failure]] number 1": _FAILURE + 'runtime="*"\narchitecture={}',
    "runtime of [[optimisation.layer_floor]] number 1": _LAYERS + "runtime={}",
    "precision of [[optimisation.layer_floor]] number 1": _LAYERS + "precision={}",
    "runtime of [[optimisation.constant_limit]] number 1": (
        '[[optimisation.constant_limit]]\nworkload="*"\nat_most=1\nreason="x"\nruntime={}'
    ),
}


@pytest.mark.parametrize(
    ("key", "good", "bad", "says"),
    [
        *(
            (
                key,
                ["tensorrt_rtx 1.4.*", "tensorrt_rtx *", "*", "torch 2.11.0+cu130", "t*"],
                bad,
                "no runtime is called so",
            )
            for key in _TABLES
            if key.endswith("runtime")
            for bad in ("tensorrt-rtx 1.4.*", "tensorrt_rtx", "TensorRT 10.*", "tensorrt_rtx1.4.*")
        ),
        (
            "architecture of [[known_failure]] number 1",
            ["sm_90", "sm_*", "cpu", "*"],
            "sm90",
            "no architecture is called so",
        ),
        (
            "precision of [[optimisation.layer_floor]] number 1",
            ["fp16", "?p16", "*"],
            "f16",
            "no precision is called so",
        ),
    ],
)
def test_a_pattern_that_nothing_is_called_by_is_refused(tmp_path, key, good, bad, says):
    path = tmp_path / "trtgate.toml"
    for pattern in good:
        path.write_text(_TABLES[key].format(f'"{pattern}"'))
        load(path)
    assert f"{key} is '{bad}': {says}" in refusal(tmp_path, _TABLES[key].format(f'"{bad}"'))
