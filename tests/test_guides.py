"""What the guides tell people to write is accepted, and what they link to exists."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from trtgate.gate.plan import default_cases
from trtgate.policy import Policy
from trtgate.workloads import registry
from trtgate.workloads.base import Workload
from trtgate.workloads.known import Known
from trtgate.workloads.possible_rules import require_possible

ROOT = Path(__file__).resolve().parents[1]
GUIDES = [ROOT / "docs" / name for name in ("guide-ten-minutes.md", "gitlab.md", "slurm.md", "formats.md")]


def _blocks(guide, language):
    return re.findall(rf"```{language}\n(.*?)```", guide.read_text(), re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_links_lead_somewhere(guide):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", guide.read_text()):
        assert (guide.parent / target).exists(), target


@pytest.mark.parametrize("text", _blocks(GUIDES[0], "toml"))
def test_settings_of_the_guide_are_known_ones(text):
    policy = Policy.model_validate(tomllib.loads(text))
    assert policy != Policy()
    require_possible(policy, GUIDES[0], Known({**registry.OWN, "detector": None}))


def test_the_cases_of_the_guide_are_those_that_a_gate_takes_by_itself():
    listed = [Policy.model_validate(tomllib.loads(text)).gate.cases for text in _blocks(GUIDES[0], "toml")]
    for device, cases in zip(("cuda", "cpu"), filter(None, listed), strict=True):
        assert set(default_cases(device, Known({"detector": None}, ("detector",)))) == set(cases)


def test_the_workload_of_the_guide_is_one():
    (text,) = _blocks(GUIDES[0], "python")
    text = text.replace("from my_project.model import Detector\n", "")
    found = {"Detector": lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 224 * 224, 4))}
    exec(compile(text, "trtgate_workloads.py", "exec"), found)
    (workload,) = (make(Path("cache")) for make in found["WORKLOADS"].values())
    assert isinstance(workload, Workload)
    assert workload.module()(*workload.inputs(2, None, seed=0)).shape == (2, 4)
    assert workload.fingerprint


def test_the_gitlab_file_is_yaml_whose_jobs_never_share_the_gpu():
    (text,) = _blocks(GUIDES[1], "yaml")
    jobs = yaml.safe_load(text)
    assert {job["resource_group"] for job in jobs.values()} == {"gpu"}


@pytest.mark.parametrize(
    "code", ["0 | pass", "1 | regression", "2 | usage", "3 | inconclusive", "4 | environment", "5 | nothing"]
)
def test_the_exit_codes_of_the_guide_are_those_of_the_command_line(code):
    from trtgate.cli import ExitCode

    number, word = code.split(" | ")
    assert f"| {code}" in GUIDES[0].read_text()
    assert ExitCode(int(number)).name.lower().startswith({"environment": "invalid"}.get(word, word))
