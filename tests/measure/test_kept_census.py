"""A census that is recalled without a build belongs to the very engine that a build would make."""

from types import SimpleNamespace

import pytest
from engine_samples import logged

from trtgate.backends.gpu_files import gpu_possible
from trtgate.case import Case
from trtgate.measure import kept_census
from trtgate.policy.calibration import CalibrationSettings

CASE = Case.parse("vit_b_16-tensorrt_engine-fp16-b2-stream")
CALIBRATION = CalibrationSettings()


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(kept_census.gpu_files, "gpu_possible", lambda: False)


@pytest.fixture
def census():
    return logged("vit_b_16_fp16_rtx_1.6")


@pytest.fixture
def kept(tmp_path, census):
    kept_census.keep(CASE, tmp_path, CALIBRATION, census)
    return tmp_path


def recalled(folder, case=CASE, calibration=CALIBRATION):
    return kept_census.recall(case, folder, calibration)


def test_what_was_kept_is_recalled_and_nothing_else(kept, census):
    assert recalled(kept) == census
    assert recalled(kept, Case.parse("vit_b_16-tensorrt_engine-fp16-b1-stream")) is None
    assert recalled(kept, calibration=CalibrationSettings(seed=1)) is None
    assert recalled(kept / "elsewhere") is None


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("_source_digest", lambda: "another source"),
        ("_version", lambda package: "9.9" if package == "torch" else None),
        ("trt_installed", SimpleNamespace(versions=lambda: ("tensorrt_rtx", "1.7.1.116"))),
        ("platform", SimpleNamespace(machine=lambda: "aarch64", python_version=lambda: "3.12.3")),
        ("gpu_files", SimpleNamespace(gpu_possible=lambda: True)),
    ],
)
def test_whatever_shapes_the_engine_makes_it_anew(kept, monkeypatch, name, changed):
    monkeypatch.setattr(kept_census, name, changed)
    assert recalled(kept) is None


def test_weights_that_were_replaced_make_it_anew(kept, census):
    weights = kept / "workloads" / "vit_b_16" / "conditioning.npz"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"other weights")
    assert recalled(kept) is None
    kept_census.keep(CASE, kept, CALIBRATION, census)
    assert recalled(kept) == census
    weights.write_bytes(b"still others")
    assert recalled(kept) is None


def test_a_damaged_file_is_not_believed(kept):
    (path,) = (kept / "censuses").glob("*.json")
    path.write_bytes(path.read_bytes()[:-1])
    assert recalled(kept) is None


@pytest.mark.parametrize(
    "case",
    [
        "vit_b_16-onnxruntime-fp16-b2-stream",
        "vit_b_16-torch_tensorrt-fp16-b2-stream",
        "mine-tensorrt_engine-fp16-b2-stream",
    ],
)
def test_other_backends_and_a_projects_own_workloads_are_asked_each_time(tmp_path, census, case):
    kept_census.keep(Case.parse(case), tmp_path, CALIBRATION, census)
    assert not any(tmp_path.iterdir())


def test_what_an_engine_on_a_gpu_told_is_asked_again(tmp_path, census):
    kept_census.keep(CASE, tmp_path, CALIBRATION, census.model_copy(update={"origin": "inspector"}))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["nvidia0", "nvidiactl", "dxg", "nvhost-gpu"])
def test_a_gpu_is_told_by_its_device_files(tmp_path, device):
    (tmp_path / "null").touch()
    assert not gpu_possible(tmp_path)
    (tmp_path / device).touch()
    assert gpu_possible(tmp_path)
