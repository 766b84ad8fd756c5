"""`trtgate policy`: what it prints is a policy file, names every key, and says what each means."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from trtgate.cli import ExitCode, main
from trtgate.policy import Policy, load
from trtgate.report.effective_policy import toml_of

ROOT = Path(__file__).parents[2]
OURS = load(ROOT / "trtgate.toml")
AWKWARD = Policy.model_validate(
    {
        "gate": {"cases": ["resnet18-eager-fp16-b8-graph"], "setup": ["sh", "-c", 'echo "\\ \x7f"\n\t\u00e9']},
        "judge": {
            "passes": ["same"],
            "case_margin": [{"case": "*", "quantity": "device", "margin": 0.1, "reason": "a\nb"}],
        },
        "measure": {"spacer_seconds": 1e-30},
        "parity": {"tolerance": {"fp16": {"factor": 9, "floor": 1}}},
    }
)


def _keys(model, path=""):
    """Every key of a policy: its path, and its field."""
    for name, field in model.model_fields.items():
        models = [m for m in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(m, type)]
        (below,) = [m for m in models if issubclass(m, BaseModel)] or [None]
        if below is None:
            yield f"{path}{name}", field
        else:
            yield from _keys(below, f"{path}{name}.")


@pytest.mark.parametrize("policy", [Policy(), OURS, AWKWARD], ids=["defaults", "ours", "awkward"])
def test_what_is_printed_reads_back_as_the_same_policy(policy):
    text = toml_of(policy)
    assert Policy.model_validate(tomllib.loads(text)) == policy
    assert "Undefined" not in text


def test_every_key_is_named_with_its_meaning():
    text = " ".join(toml_of(Policy()).replace("#", " ").split())
    for path, field in _keys(Policy):
        assert field.description, path
        assert " ".join(field.description.split()) in text, path
        assert f"{path.rpartition('.')[2]}" in text


def test_limits_choices_and_changed_defaults_are_told():
    text = toml_of(AWKWARD)
    assert "; more than 0; default 0.0002\nspacer_seconds = 1e-30\n" in text
    assert "one of max, entropy" in text
    assert 'default ["same", "faster"]' in text.replace("\n#  ", "")
    assert "# shape: of the case, such as 'b8', or 'b8s128' with a sequence length (required)" in text


def test_the_command_prints_what_holds_here(here, capsys):
    assert main(["policy"]) == ExitCode.PASS
    printed = capsys.readouterr().out
    assert printed.startswith("# The policy that holds here: the defaults: there is no trtgate.toml.\n")
    assert Policy.model_validate(tomllib.loads(printed)) == Policy()
    (here / "trtgate.toml").write_text("[judge.margin]\ndevice = 0.02\n")
    assert main(["policy"]) == ExitCode.PASS
    printed = capsys.readouterr().out
    assert f"{here / 'trtgate.toml'}, and the defaults where it is silent" in printed.splitlines()[0]
    assert tomllib.loads(printed)["judge"]["margin"]["device"] == 0.02
    assert main(["policy", "--policy", "nowhere.toml"]) == ExitCode.USAGE
