"""Plans, their census beside them, and the cost of reading the largest."""

import hashlib
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from engine_samples import FOLDER, logged
from onnx import TensorProto, helper

from trtgate.backends import tensorrt_engine, trt_runtime
from trtgate.backends.base import YES, BuildContext
from trtgate.backends.plan_header import read_header
from trtgate.case import Precision
from trtgate.errors import BackendAbsentError, InspectionError, PlanError
from trtgate.measure import inspection
from trtgate.measure.timing import BuildStopwatch
from trtgate.workloads import micro_models

AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
needs_builder = pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "a.plan"
    path.write_bytes(b"a serialised engine")
    return path


def test_a_census_is_tied_to_the_bytes_of_its_plan(plan):
    kept = inspection.keep_census(plan, logged("transformer_fp16_rtx_1.6"))
    assert kept.plan_digest == hashlib.sha256(b"a serialised engine").hexdigest()
    assert inspection.read_census(plan) == kept
    assert inspection.inspect_plan(plan) == kept
    plan.write_bytes(b"another engine")
    with pytest.raises(InspectionError, match="describes another engine"):
        inspection.inspect_plan(plan)


def test_a_plan_without_a_census_needs_a_gpu(plan):
    with pytest.raises(InspectionError, match="No census lies beside"):
        inspection.read_census(plan)
    _, version = trt_runtime.versions()
    if version is not None and not torch.cuda.is_available():
        plan.write_bytes(header(version))
        with pytest.raises(BackendAbsentError, match=r"a\.plan cannot be deserialised here"):
            inspection.inspect_plan(plan)


def header(version, tag=b"vtrt"):
    """A plan's first bytes, as TensorRT-RTX 1.6.1.120 writes them, and nothing behind them."""
    parts = bytes(int(part) for part in version.split(".")[:4])
    return tag + bytes(4) + b"\x02" + bytes(7) + (32).to_bytes(8, "little") + parts + tag


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the runtime judges")
def test_a_plan_of_another_version_and_a_file_that_is_no_plan_are_told_apart(plan):
    plan.write_bytes(b"# trtgate\nA pytest suite")
    with pytest.raises(PlanError, match=r"is not a serialised engine: it begins with b'# trtgate") as refused:
        inspection.inspect_plan(plan)
    assert "cache" not in str(refused.value)
    if trt_runtime.versions()[1] is not None:
        for content, builder in ((header("1.0.0.7"), "tensorrt_rtx 1.0.0.7"), (header("10.3.0.26"), "tensorrt 10.3")):
            plan.write_bytes(content)
            with pytest.raises(PlanError, match=f"was built by {builder}.*is installed here") as refused:
                inspection.inspect_plan(plan)
            assert "cache" not in str(refused.value)
    for cut in (31, 20, 4):
        plan.write_bytes(header("1.6.1.120")[:cut])
        with pytest.raises(PlanError, match=f"is truncated: it has {cut} bytes"):
            inspection.inspect_plan(plan)


@needs_builder
def test_a_plan_that_the_runtime_refuses_is_explained_by_its_header(plan, monkeypatch):
    """The real runtime reads the mapped file. It can be made without a GPU, and then refuses everything."""
    monkeypatch.setattr("trtgate.backends.gpu_files.gpu_possible", lambda: True)
    monkeypatch.setattr("trtgate.backends.trt_inspect.cuda_answer", lambda: YES)
    plan.write_bytes(header("1.0.0.7"))
    with pytest.raises(PlanError, match=r"could not be deserialised: .*It was built by tensorrt_rtx 1\.0\.0\.7, and"):
        inspection.inspect_plan(plan)
    plan.write_bytes(header(trt_runtime.versions()[1]))
    with pytest.raises(PlanError, match=r"could not be deserialised: .*the GPU model that it was built for"):
        inspection.inspect_plan(plan)
    plan.write_bytes(b"# trtgate\nA pytest suite, and no plan at all")
    with pytest.raises(
        PlanError, match=r"could not be deserialised: .*does not begin as a serialised engine"
    ) as refused:
        inspection.inspect_plan(plan)
    assert "cache" not in str(refused.value)


@needs_builder
def test_the_header_of_a_real_plan_names_its_builder(tmp_path):
    context = BuildContext(torch.device("cpu"), None, tmp_path, BuildStopwatch())
    path = micro_models.get("mlp").write(tmp_path, Precision.FP16)
    built = tensorrt_engine.plan_of(path, Precision.FP16, "mlp", context, ahead_of_time=True)
    found = read_header(built.path)
    assert found.builder == inspection.runtime_here()
    assert found.built_by("tensorrt_rtx", f"{found.version}.post1")
    assert not found.built_by("tensorrt_rtx", f"{found.version}0")
    assert not found.built_by("tensorrt", found.version)
    built.path.write_bytes(built.content[:-1])
    with pytest.raises(PlanError, match="is truncated"):
        read_header(built.path)


def test_unreadable_plans_are_refused(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        inspection.inspect_plan(tmp_path / "absent.plan")
    with pytest.raises(PlanError, match="cannot be read"):
        inspection.read_census(tmp_path / "absent.plan")
    (tmp_path / "empty.plan").touch()
    with pytest.raises(PlanError, match="is empty"):
        inspection.inspect_plan(tmp_path / "empty.plan")


@needs_builder
def test_the_cache_keeps_plan_and_census_together(tmp_path):
    context = BuildContext(torch.device("cpu"), None, tmp_path, BuildStopwatch())
    path = micro_models.get("mlp").write(tmp_path, Precision.FP16)

    def ensure():
        return inspection.ensure_census(path, Precision.FP16, "mlp", context, ahead_of_time=True)

    first, census = ensure()
    assert not first.from_cache
    assert census.origin == "build_log"
    assert census.runtime.startswith("tensorrt_rtx 1.")
    second, again = ensure()
    assert second.from_cache
    assert again == census
    # A census that was lost, damaged or belongs to another plan is made anew, layers equal.
    beside = inspection.census_path(second.path)
    for damage in (b"", b"{}", beside.read_bytes().replace(second.digest[:8].encode(), b"00000000")):
        beside.write_bytes(damage)
        third, mended = ensure()
        assert mended.layers == census.layers
        assert inspection.read_census(third.path) == mended


# Not getrusage: its peak survives exec, so it would be that of the process that started this one.
COST = """
import re, sys, time
from pathlib import Path
from trtgate.measure.compute_share import facts
before = time.perf_counter()
{work}
seconds = time.perf_counter() - before
peak_kib = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(seconds, int(peak_kib) * 1024, told["layers"])
"""


def cost(work, *arguments):
    """Seconds, peak bytes and layers of a piece of work in a process of its own."""
    command = [sys.executable, "-c", COST.format(work=work), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    seconds, peak_bytes, layers = done.stdout.split()
    return float(seconds), int(peak_bytes), int(layers)


def test_the_largest_engine_is_read_in_two_seconds_and_500_mb(tmp_path):
    """vit_b_16, with an ONNX file as large as its float32 weights."""
    onnx_path = tmp_path / "vit.onnx"
    _large_model(onnx_path, [node.name for node in logged("vit_b_16_fp16_rtx_1.6").sources])
    assert onnx_path.stat().st_size > 300e6
    work = """
import gzip
from trtgate.measure.inspection import census_from_build_log
lines = gzip.decompress(Path(sys.argv[1]).read_bytes()).decode().split("\\n")
told = facts(census_from_build_log(lines, Path(sys.argv[2])))
"""
    seconds, peak_bytes, layers = cost(work, FOLDER / "vit_b_16_fp16_rtx_1.6.log.gz", onnx_path)
    assert layers == 137
    assert seconds < 2
    assert peak_bytes < 500e6


def test_the_largest_plan_is_tied_to_its_census_in_two_seconds_and_500_mb(plan):
    """441 MB, the size of the zoo's largest engine: the census beside it is only used if the plan's digest agrees."""
    with plan.open("wb") as file:
        file.write(header("1.6.1.120"))
        file.truncate(441_000_000)
    inspection.keep_census(plan, logged("vit_b_16_fp16_rtx_1.6"))
    work = """
from trtgate.measure.inspection import inspect_plan
told = facts(inspect_plan(Path(sys.argv[1])))
"""
    seconds, peak_bytes, layers = cost(work, plan)
    assert layers == 137
    assert seconds < 2
    assert peak_bytes < 300e6  # the plan is not held: the whole is less than its bytes


def _large_model(path, names):
    """The micro perceptron with nodes of these names and 346 MB of weights: vit_b_16 in float32 has as many bytes."""
    size = 346_000_000
    model = micro_models.get("mlp").model(Precision.FP32)
    model.graph.node.extend(helper.make_node("Identity", ["x"], [f"{name}_out"], name=name) for name in names)
    model = model.SerializeToString()
    tensor = onnx.TensorProto(name="large", data_type=TensorProto.FLOAT, dims=[size // 4]).SerializeToString()
    raw = b"\x4a" + _varint(size)  # TensorProto.raw_data, whose bytes the file's hole holds
    initialiser = b"\x2a" + _varint(len(tensor) + len(raw) + size)  # GraphProto.initializer
    graph = b"\x3a" + _varint(
        len(initialiser) + len(tensor) + len(raw) + size
    )  # ModelProto.graph, merged with the first
    with path.open("wb") as file:
        file.write(model + graph + initialiser + tensor + raw)
        file.truncate(file.tell() + size)


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
