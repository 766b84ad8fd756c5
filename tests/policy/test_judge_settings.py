"""What a judge may say in trtgate.toml, and what it may not."""

import pytest

from trtgate.case import Case, Quantity
from trtgate.errors import PolicyError
from trtgate.policy import JudgeSettings, load

GRAPH, EAGER = "resnet18-tensorrt_engine-fp16-b8-graph", "resnet18-eager-fp16-b8-stream"


def read(tmp_path, text):
    (tmp_path / "trtgate.toml").write_text(text)
    return load(tmp_path / "trtgate.toml").judge


def test_the_last_margin_that_names_a_case_wins(tmp_path):
    settings = read(
        tmp_path,
        """
        [judge.margin]
        latency = 0.1
        [[judge.case_margin]]
        case = "resnet18-*"
        quantity = "device"
        margin = 0.02
        reason = "small"
        [[judge.case_margin]]
        case = "*-eager-*"
        quantity = "device"
        margin = 0.05
        reason = "ungraphed"
        """,
    )
    assert settings.margin_for(GRAPH, Quantity.DEVICE) == 0.02
    assert settings.margin_for(EAGER, Quantity.DEVICE) == 0.05
    assert settings.margin_for("vit_b_16-eager_x", Quantity.DEVICE) == 0.01
    assert settings.margin_for(GRAPH, Quantity.LATENCY) == 0.1
    assert settings.margin_for(GRAPH, Quantity.OPTIMISATION) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[judge]\npasses = ["faster"]', "must hold 'same'"),
        ('[judge]\npasses = ["same", "inconclusive"]', "passes"),
        ("[judge]\nfalse_failure_rate = 0.6", "false_failure_rate"),
        ("[judge]\naa_pairs = 9", "would never have its A/A arm"),
        ("[judge.margin]\ndevise = 0.1", "Did you mean 'device'"),
        ('[[judge.case_margin]]\ncase="*"\nquantity="optimisation"\nmargin=0\nreason="x"', "margin"),
        ('[[judge.case_margin]]\ncase="*"\nquantity="device"\nmargin=0.1\nreason=""', "reason"),
    ],
)
def test_settings_without_meaning_are_refused(tmp_path, text, words):
    with pytest.raises(PolicyError, match=words):
        read(tmp_path, text)


def test_the_spread_between_processes_depends_on_how_a_case_runs():
    settings = JudgeSettings()
    stream = "resnet18-tensorrt_engine-fp16-b8-stream"
    spreads = [
        settings.between_process_sd(Case.parse(case), quantity)
        for case, quantity in (
            (GRAPH, Quantity.DEVICE),
            (stream, Quantity.DEVICE),
            (EAGER, Quantity.DEVICE),
            (GRAPH, Quantity.LATENCY),
        )
    ]
    assert spreads == [0.029, 0.24, 0.31, 0.31]
