"""``trtgate bisect CASE`` finds what parity failed on, or says that it does not."""

import json
from types import SimpleNamespace

import pytest
import torch

from trtgate.case import Case
from trtgate.cli import main
from trtgate.measure import bisect_target, workplace
from trtgate.policy import load
from trtgate.workloads.base import Workload

CASE = "small-onnxruntime-fp16-b2-stream"
# Half of the error that fp16 makes by itself: a case that cannot pass.
TOO_TIGHT = "[parity.tolerance.fp16]\nfactor = 0.5\nfloor = 1e-5\n"


class Squared(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(16, 32)
        self.second = torch.nn.Linear(32, 8)

    def forward(self, values):
        square = self.first(values).square()
        return self.second(square / 1024), square


class Small(Workload):
    """One batch of four is so large that a square leaves float16."""

    name = "small"
    input_names = ("values",)
    output_names = ("y", "square")

    def __init__(self, loud=None):
        self.loud = loud

    @property
    def fingerprint(self):
        return f"small {self.loud}"

    def module(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Squared().eval().requires_grad_(False)

    def inputs(self, batch, sequence, seed):
        drawn = torch.randn(batch, 16, generator=torch.Generator().manual_seed(seed))
        return (drawn * (2000 if seed == self.loud else 8),)


@pytest.fixture
def bisected(tmp_path, monkeypatch, capsys):
    """Runs the command on a small workload under a policy; returns its exit code and what it printed."""

    def run(*arguments, policy="", loud=None):
        monkeypatch.setattr(workplace, "registry", SimpleNamespace(get=lambda name, **_: Small(loud)))
        (tmp_path / "policy.toml").write_text(policy)
        paths = ["--policy", str(tmp_path / "policy.toml"), "--cache-dir", str(tmp_path)]
        code = main(["bisect", CASE, *paths, *arguments])
        return code, capsys.readouterr().out

    return run


def test_a_case_that_passes_parity_says_so(bisected):
    code, printed = bisected()
    assert code == 0
    assert "no output is wrong on the seeds 0, 1, 2, 3: the largest relative error is" in printed
    assert printed.endswith("The case passes parity.\n")


def test_a_fault_on_one_batch_alone_is_found(bisected):
    code, printed = bisected("--json", loud=2)
    told = json.loads(printed)
    assert (code, told["seed"]) == (1, 2)
    assert told["culprit"]["output"]["non_finite"] > 0
    assert told["culprit"]["growth"] is None  # infinite, which JSON cannot say
    assert bisected("--seed", "0", loud=2)[0] == 3


def test_half_of_what_parity_allows_is_the_limit_where_that_is_less_than_ten_floors(bisected):
    code, printed = bisected("--json", policy=TOO_TIGHT)
    told = json.loads(printed)
    assert code == 1
    assert 1e-5 < told["limit"] < 1e-4
    assert json.loads(bisected("--json")[1])["limit"] < 10 * load(None).parity.tolerance["fp16"].floor


def test_where_nothing_is_found_it_says_what_parity_failed_on_and_how_to_go_on(bisected):
    code, printed = bisected("--limit", "0.5", policy=TOO_TIGHT)
    assert code == 3
    assert "no output is wrong on the seeds 0, 1, 2, 3" in printed
    assert "Yet it fails parity: Output 'y' of batch 0: relative L2 error" in printed
    assert "Search with a lower limit, such as --limit" in printed
    told = json.loads(bisected("--limit", "0.5", "--json", policy=TOO_TIGHT)[1])
    assert told["culprit"] is None
    assert told["parity"]["passed"] is False


def test_a_case_that_parity_cannot_judge_is_searched_all_the_same(bisected):
    code, printed = bisected(policy="[parity]\nmax_bound = 1e-9\n")
    assert code == 3
    assert "Parity cannot judge this case: Plain PyTorch's 'small' at fp16 is itself" in printed


def test_a_search_that_is_stopped_is_inconclusive(bisected):
    code, printed = bisected("--max-runs", "1", loud=2)
    assert code == 3
    assert "the search was stopped after 1 runs" in printed
    assert main(["bisect", CASE, "--max-runs", "0"]) == 2


@pytest.mark.parametrize("limit", ["nan", "inf", "0", "-1"])
def test_a_limit_that_is_no_limit_is_refused(capsys, limit):
    assert main(["bisect", CASE, f"--limit={limit}"]) == 2
    assert f"--limit is {float(limit)}" in capsys.readouterr().err


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.5), ("int8", 1.0)])
def test_the_limit_is_a_share_of_the_bound_that_parity_sets(tmp_path, monkeypatch, precision, share):
    """A quantised case is searched with parity's own reference: what passes parity must not be called wrong."""
    if precision == "int8":
        pytest.importorskip("modelopt")
    monkeypatch.setattr(workplace, "registry", SimpleNamespace(get=lambda name, **_: Small()))
    case = Case.parse(CASE.replace("fp16", precision))
    found = bisect_target.target_of_case(case, tmp_path, load(None))
    proven = found.prove()
    assert proven.passed
    assert found.limit == pytest.approx(share * min(one.bound for one in proven.outputs))


def test_micro_models_and_files_have_no_parity(tmp_path):
    case = Case.parse("overflow-onnxruntime-fp16-b1-stream")
    found = bisect_target.target_of_case(case, tmp_path, load(None))
    assert (found.prove, found.unproven) == (None, "")
    assert found.limit == pytest.approx(1e-2)
