import argparse
import json
import sys
from pathlib import Path

import pytest
from tree import case_of, write_tree

from trtgate.backends import gpu_files
from trtgate.case import Case, Quantity
from trtgate.commands import gate as command
from trtgate.errors import EnvironmentInvalidError, PolicyError, StorageError, UnknownValueError, UsageError
from trtgate.gate import plan
from trtgate.gate.outcome import GateOutcome
from trtgate.gate.result import GateResult
from trtgate.gate.sides import Side, SideError
from trtgate.judge.verdict import Decision, Verdict
from trtgate.measure import device as devices
from trtgate.policy import Policy
from trtgate.policy.gate import GateSettings
from trtgate.workloads import registry
from trtgate.workloads.known import Known

FULL = Path("/dev/full")


def _run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*map(str, arguments), "--device", "cpu"]))


@pytest.fixture
def trees(tmp_path):
    return write_tree(tmp_path / "base", {"small": "layers=2"}), write_tree(tmp_path / "head", {"small": "layers=2"})


def test_a_case_that_is_none_is_refused_before_anything_starts(trees, tmp_path):
    with pytest.raises(UsageError, match="'resnet18' is not a case id"):
        _run(*trees, "--case", "resnet18", "--cache", tmp_path / "cache")


def test_an_unknown_quantity_is_refused_with_the_nearest(trees, tmp_path):
    with pytest.raises(UnknownValueError, match="Did you mean 'latency'"):
        _run(*trees, "--quantity", "latencies", "--cache", tmp_path / "cache")


def test_throughput_is_not_judged(trees, tmp_path):
    with pytest.raises(UnknownValueError, match="throughput"):
        _run(*trees, "--quantity", "throughput", "--cache", tmp_path / "cache")
    with pytest.raises(ValueError, match="does not judge throughput"):
        GateSettings(quantities=(Quantity.THROUGHPUT,))


def test_a_ref_that_does_not_exist_is_usage(tmp_path):
    with pytest.raises(UsageError, match="no-such-ref"):
        _run("no-such-ref", "--cache", tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(trees, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/cache cannot be made"):
        _run(*trees, "--cache", tmp_path / "file/cache")


def test_the_base_policy_judges_and_a_broken_one_is_named(trees, tmp_path):
    base, head = trees
    (base / "trtgate.toml").write_text("[judge]\nmargins = 3\n")
    with pytest.raises(PolicyError, match=r"base/trtgate\.toml: unknown key"):
        _run(base, head, "--cache", tmp_path / "cache")


def test_a_change_that_brings_the_first_policy_is_not_judged_by_it(tmp_path, monkeypatch):
    base, head, elsewhere = (tmp_path / name for name in ("base", "head", "elsewhere"))
    for folder in (base, head, elsewhere):
        folder.mkdir()
    loose = "[judge.margin]\ndevice = 1.0\n"
    (head / "trtgate.toml").write_text(loose)
    both = [Side(name, f"path:{tree}", Path(sys.executable), tree) for name, tree in (("base", base), ("head", head))]
    for current in (head, tmp_path):
        judging, own = command._policies(None, *both, current)
        assert (judging.judge.margin.device, own.judge.margin.device) == (0.01, 1.0)
    (elsewhere / "trtgate.toml").write_text(loose)  # nobody's: whoever stands there chose it
    assert command._policies(None, *both, elsewhere)[0].judge.margin.device == 1.0


def test_a_gpu_that_cannot_be_used_is_no_reason_to_gate_on_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "cuda_problem", lambda: "The driver is too old.")
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: False)
    assert command._device() == "cpu"
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: True)
    with pytest.raises(EnvironmentInvalidError, match=r"cannot be used: The driver is too old\."):
        command._device()


def test_a_base_whose_set_up_fails_is_no_gate(trees, tmp_path):
    base, head = trees
    setup = [sys.executable, "-c", "import sys; sys.exit('the build step broke')"]
    (base / "trtgate.toml").write_text(f"[gate]\nsetup = {setup!r}\n")
    with pytest.raises(SideError, match="exit code 1 on the base side: the build step broke"):
        _run(base, head, "--cache", tmp_path / "cache")


def test_a_gate_that_compares_nothing_says_why_in_every_report(trees, tmp_path):
    base, head = trees
    (base / "trtgate.toml").write_text('[gate]\nsetup = ["sh", "-c", "echo no compiler >&2; exit 1"]\n')
    files = {form: tmp_path / form for form in ("markdown", "junit", "json")}
    with pytest.raises(SideError):
        _run(
            base, head, "--cache", tmp_path / "cache", *(x for form, file in files.items() for x in (f"--{form}", file))
        )
    told = {form: file.read_text() for form, file in files.items()}
    assert told["markdown"].startswith("### trtgate gate: nothing compared\n")
    assert json.loads(told["json"])["outcome"] == "nothing_compared"
    assert 'errors="1"' in told["junit"]
    assert all("on the base side: no compiler." in text for text in told.values())


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_report_that_cannot_be_written_does_not_hide_that_nothing_was_compared(trees, tmp_path, capsys):
    base, head = trees
    (base / "trtgate.toml").write_text('[gate]\nsetup = ["false"]\n')
    with pytest.raises(SideError, match="'false' failed"):
        _run(base, head, "--cache", tmp_path / "cache", "--markdown", FULL)
    assert "No space left on device" in capsys.readouterr().err


OURS = Known(registry.OWN)
NOTHING = GateSettings()


def wanted(*named, base=NOTHING, head=NOTHING, device="cuda"):
    return plan.Wanted(base, Policy(gate=head), device, named)


@pytest.fixture
def ended(monkeypatch, h100):
    """Lets every gate end with one verdict, without starting anything."""

    def end(verdict, *, samples_lost):
        def run(session):
            if samples_lost:
                session.samples_lost = StorageError("No space left on device.", "Free space.")
            decisions = {(case_of("small"), Quantity.LATENCY): Decision(verdict, "code", "Why.")}
            return GateResult(session.base, session.head, decisions, None, {}, (), h100, 8, 10.0)

        monkeypatch.setattr(command.Session, "run", run)

    return end


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [(Verdict.SLOWER, GateOutcome.REGRESSION), (Verdict.INCONCLUSIVE, GateOutcome.INCONCLUSIVE)],
)
@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("lost", ["samples", "report"])
def test_a_full_disk_does_not_hide_what_was_found(trees, tmp_path, ended, capsys, verdict, outcome, lost):
    ended(verdict, samples_lost=lost == "samples")
    report = FULL if lost == "report" else tmp_path / "report.md"
    assert _run(*trees, "--cache", tmp_path / "cache", "--markdown", report) is outcome
    assert "No space left on device" in capsys.readouterr().err


def test_a_gate_that_would_pass_does_not_where_what_was_asked_for_is_not_there(trees, tmp_path, ended):
    ended(Verdict.SAME, samples_lost=True)
    with pytest.raises(StorageError, match="No space left on device"):
        _run(*trees, "--cache", tmp_path / "cache")


def test_a_change_cannot_take_a_case_out_of_its_own_examination():
    base = GateSettings(cases=(case_of("kept"), case_of("dropped")))
    head = GateSettings(cases=(case_of("kept"), case_of("added")))
    sides = Known({"kept": None, "dropped": None}), Known({"kept": None, "added": None})
    assert wanted(base=base, head=head).cases(*sides) == (case_of("kept"), case_of("dropped"), case_of("added"))
    assert wanted(case_of("kept"), base=base, head=head).cases(*sides) == (case_of("kept"),)


@pytest.mark.parametrize(
    ("device", "cases"),
    [
        (
            "cuda",
            [
                "detector-eager-fp16-b8-graph",
                "detector-tensorrt_engine-fp16-b8-graph",
                "reader-eager-fp16-b8s64-graph",
                "reader-tensorrt_engine-fp16-b8s64-graph",
            ],
        ),
        (
            "cpu",
            [
                "detector-eager-fp32-b1-stream",
                "detector-onnxruntime-fp32-b1-stream",
                "reader-eager-fp32-b1s64-stream",
                "reader-onnxruntime-fp32-b1s64-stream",
            ],
        ),
    ],
)
def test_a_project_with_workloads_of_its_own_is_gated_on_these(device, cases):
    base = Known({**registry.OWN, "detector": 0}, ("detector",))
    head = Known({**registry.OWN, "detector": 0, "reader": 64}, ("detector", "reader"))
    assert wanted(device=device).cases(base, head) == tuple(cases)
    # A list in the base's file stays, and what the head registers is no part of it.
    listed = GateSettings(cases=("resnet18-eager-fp32-b1-stream",))
    assert wanted(base=listed, head=listed, device=device).cases(base, head) == listed.cases


def test_a_name_that_neither_side_has_is_refused():
    head = Known({**registry.OWN, "detector": None}, ("detector",))
    listed = GateSettings(cases=("detectr-eager-fp16-b8-graph",))
    with pytest.raises(PolicyError, match=r"Case number 1 of \[gate\]: .*Did you mean 'detector'"):
        wanted(head=listed).cases(OURS, head)
    with pytest.raises(UnknownValueError, match="Did you mean 'detector'"):
        wanted("detectr-eager-fp16-b8-graph").cases(OURS, head)
    # Nothing is known of a head that does not start, and a mistake in the base's file is the change's to mend.
    unknown = Known.from_json(None)
    assert wanted("detectr-eager-fp16-b8-graph").cases(OURS, unknown)
    assert wanted(base=listed).cases(OURS, head)[0] == listed.cases[0]


def test_without_a_word_device_time_and_parity_are_judged_and_latency_where_there_is_no_gpu():
    assert plan.quantities_of(GateSettings(), [], "cuda") == (Quantity.DEVICE, Quantity.PARITY)
    assert plan.quantities_of(GateSettings(), [], "cpu") == (Quantity.LATENCY, Quantity.PARITY)


def test_build_times_of_shared_builds_are_refused():
    with pytest.raises(UsageError, match="4 pairs share each build"):
        plan.quantities_of(GateSettings(renew_build_every=4), [Quantity.BUILD], "cuda")


@pytest.mark.parametrize(("device", "workloads"), [("cuda", registry.ON_GPU), ("cpu", registry.ON_CPU)])
def test_default_cases_are_of_the_default_matrix(device, workloads):
    cases = GateSettings(cases=plan.default_cases(device, OURS, OURS)).cases
    assert tuple(dict.fromkeys(Case.parse(case).workload for case in cases)) == workloads
    assert all(case.endswith("-b8s128-graph") for case in cases if case.startswith("transformer"))


@pytest.mark.parametrize("cases", [("resnet18",), (case_of("a"), case_of("a"))])
def test_settings_refuse_what_is_no_case_and_what_stands_twice(cases):
    with pytest.raises(ValueError, match="case"):
        GateSettings(cases=cases)
