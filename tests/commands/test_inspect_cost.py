"""What ``trtgate inspect`` costs, as a process of its own: two seconds and 500 MB for the largest engine of the zoo."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_nvml import Gpu, Nvml

from trtgate import artefacts
from trtgate.backends import gpu_files, plan_cache, plan_target, trt_installed
from trtgate.case import Case
from trtgate.measure import inspection, kept_census
from trtgate.measure.build_log import parse_build_log
from trtgate.measure.census import SourceNode
from trtgate.policy import find, load

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests", ROOT)))}
ENVIRONMENT.pop("CUDA_VISIBLE_DEVICES", None)
VIT = ROOT / "tests" / "data" / "engines" / "vit_b_16_fp16_rtx_1.6"
PLAN_BYTES = 441_000_000  # of the zoo's largest plan

# A GPU is there or not as the first argument says, as far as it is asked for without torch: device files and NVML.
# CPU seconds, which neighbours on the machine do not lengthen as they do the clock's. VmHWM and not getrusage: its peak
# survives exec, so it would be that of the process that started this one.
COMMAND = """
import re, resource, sys
from pathlib import Path
from simulated_nvml import Gpu, Nvml
from trtgate.backends import gpu_files
from trtgate.cli import main
sys.modules["pynvml"] = Nvml(Gpu())
gpu_files.gpu_possible = lambda: sys.argv[1] == "GPU"
code = main(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_SELF)
peak_kib = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
large = bool({"torch", "scipy"} & set(sys.modules))
print(code, used.ru_utime + used.ru_stime, int(peak_kib) * 1024, large, file=sys.stderr)
"""


def inspect(*arguments, gpu="NONE"):
    """Run the command; returns its exit code, what it printed and what it said, and holds it to the limits."""
    command = [sys.executable, "-c", COMMAND, gpu, "inspect", *map(str, arguments)]
    cpu_s = []
    for _ in range(3):  # a neighbour in the same core or cache does lengthen them, by half at times
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=ENVIRONMENT)
        *said, last = done.stderr.strip().split("\n")
        code, used_s, peak_bytes, large_package = last.split()
        cpu_s.append(float(used_s))
        if min(cpu_s) < 2:
            break
    assert min(cpu_s) < 2
    assert int(peak_bytes) < 500e6
    assert large_package == "False"
    return int(code), done.stdout, " ".join(said)


@pytest.fixture(scope="module")
def census():
    lines = gzip.decompress(Path(f"{VIT}.log.gz").read_bytes()).decode().split("\n")
    nodes = json.loads(gzip.decompress(Path(f"{VIT}.sources.json.gz").read_bytes()))
    sources = tuple(SourceNode.model_validate(node) for node in nodes)
    return parse_build_log(lines).model_copy(update={"sources": sources})


def header(version):
    """A plan's first bytes, as TensorRT-RTX 1.6.1.120 writes them."""
    parts = bytes(int(part) for part in version.split(".")[:4])
    return b"vtrt" + bytes(4) + b"\x02" + bytes(7) + (32).to_bytes(8, "little") + parts + b"vtrt"


def largest_plan(folder, key):
    """A plan of the zoo's largest size in the cache, as `PlanCache.store` leaves one."""
    plans = plan_cache.of_plans(folder)
    small = plans.store(key, header("1.6.1.120"), {})
    sidecar = next(plans.folder.glob("*.json"))
    with small.path.open("r+b") as file:
        file.truncate(PLAN_BYTES)
    digest = artefacts.digest(small.path)
    path = small.path.rename(plans.content_path(key, digest))
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_bytes()), "file": path.name, "sha256": digest}))
    return path, digest


@pytest.mark.parametrize("gpu", ["NONE", "GPU"])
def test_a_case_that_was_inspected_before(tmp_path, monkeypatch, census, gpu):
    case = "vit_b_16-tensorrt_engine-fp16-b2-stream"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: gpu == "GPU")
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(Gpu()))
    path, digest = largest_plan(tmp_path, {"case": case})
    tied = census.model_copy(update={"plan_digest": digest})
    found = inspection.Inspected(tied, plan=inspection.HeldPlan(path, plan_target.here()))
    kept_census.keep(Case.parse(case), tmp_path, load(find(ROOT)).calibration, found)
    code, printed, _ = inspect(case, "--cache-dir", tmp_path, "--json", gpu=gpu)
    assert code == 0
    told = json.loads(printed)
    assert (told["facts"]["layers"], told["recalled"]) == (137, True)


def test_a_plan_with_a_census(tmp_path, census):
    plan = tmp_path / "vit.plan"
    with plan.open("wb") as file:
        file.write(header("1.6.1.120"))
        file.truncate(PLAN_BYTES)
    inspection.keep_census(plan, census)
    code, printed, _ = inspect(plan, "--json")
    assert code == 0
    assert json.loads(printed)["facts"]["layers"] == 137


def test_a_plan_of_another_version_and_a_large_file_that_is_no_plan_are_refused(tmp_path):
    plan = tmp_path / "some.plan"
    with plan.open("wb") as file:
        file.write(b"no engine at all")
        file.truncate(PLAN_BYTES)
    code, _, said = inspect(plan)
    assert (code, "is not a serialised engine" in said) == (2, True)
    installed = trt_installed.versions()[1]
    # A wrong file is a wrong argument; a right one that only a GPU could read is a matter of the machine.
    other = ("1.0.0.7", 2, "was built by tensorrt_rtx 1.0.0.7")
    for version, wanted, words in (other, (installed, 4, "no census lies beside it")):
        if installed is not None:
            plan.write_bytes(header(version))
            code, _, said = inspect(plan)
            assert (code, words in said) == (wanted, True)


def test_a_name_that_is_neither_a_file_nor_a_case(tmp_path):
    code, _, said = inspect("nothing.plan")
    assert (code, "neither a file nor a case id" in said) == (2, True)
