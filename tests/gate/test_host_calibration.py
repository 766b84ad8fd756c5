"""Both sides of a gate calibrate quantised cases as the policy says, and prove without getting in each other's way."""

from functools import partial

import pytest
import torch
from seeded_workload import SeededWorkload

from trtgate.errors import ParityError
from trtgate.gate import host as hosts
from trtgate.gate import worker


class Small(SeededWorkload):
    name = "small"
    input_names = ("values",)
    fingerprint = "small, of the calibrating host"
    make = partial(torch.nn.Linear, 32, 16)
    shape = (32,)


def test_processes_that_prove_at_once_share_the_cores_and_time_with_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts.workloads, "get", lambda name, **source: Small())
    seen = {}

    def compare(*_):
        seen["proving"] = torch.get_num_threads()
        raise ParityError("It is wrong.", "Look.")

    monkeypatch.setattr(hosts.parity_of, "compare", compare)
    start = {"op": "start", "device": "cpu", "cache": str(tmp_path), "shared": str(tmp_path), "measure": {}}
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        for provers, threads in ((None, 8), (2, 4), (4, 2), (16, 1)):
            told = {} if provers is None else {"provers": provers}
            host = worker._open_host({**start, "parity": {}, **told})
            host.build("candidate", "small-eager-fp32-b2-stream")
            with pytest.raises(ParityError):
                host.parity("candidate")
            assert seen["proving"] == threads
            assert torch.get_num_threads() == 8  # what is timed has its own threads, also behind a failure
            host.close()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("device", "threads"), [("cuda", 2), ("cpu", 8)])
def test_processes_that_build_at_once_share_the_cores_where_no_core_is_timed(tmp_path, monkeypatch, device, threads):
    seen = []

    class Watching(Small):
        def inputs(self, batch, sequence, seed):
            seen.append(torch.get_num_threads())
            raise ParityError("This is far enough.", "Stop.")

    monkeypatch.setattr(hosts.workloads, "get", lambda name, **source: Watching())
    start = {"op": "start", "device": "cpu", "cache": str(tmp_path), "shared": str(tmp_path), "measure": {}}
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        host = worker._open_host({**start, "parity": {}, "provers": 4})
        host._device = torch.device(device)
        with pytest.raises(ParityError):
            host.build("candidate", "small-eager-fp32-b2-stream")
        assert seen == [threads]
        assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)


def calibration_of_a_build(tmp_path, monkeypatch, **message):
    monkeypatch.setattr(hosts.workloads, "get", lambda name, **source: Small())
    start = {"op": "start", "device": "cpu", "cache": str(tmp_path), "shared": str(tmp_path), "measure": {}}
    host = worker._open_host({**start, "parity": {}, **message})
    try:
        host.build("candidate", "small-onnxruntime-int8-b2-stream")
        details = host._entries["candidate"].runner.facts.details
        assert host.parity("candidate")["passed"]
    finally:
        host.close()
    assert len(list((tmp_path / "quantised").glob("*.onnx"))) == 1  # the reference is of the same model
    return details["calibration"]


def test_a_worker_calibrates_as_it_is_told(tmp_path, monkeypatch):
    told = {"method": "entropy", "count": 5, "seed": 4}
    found = calibration_of_a_build(tmp_path, monkeypatch, calibration=told)
    assert found.items() >= told.items()


def test_a_worker_that_is_told_nothing_takes_the_defaults(tmp_path, monkeypatch):
    found = calibration_of_a_build(tmp_path, monkeypatch)
    assert (found["method"], found["count"], found["seed"]) == ("max", 64, 0)


def test_a_newer_gate_may_send_settings_that_this_side_does_not_know(tmp_path):
    host = hosts.Host("cpu", tmp_path, tmp_path, {"min_rounds": 7, "of_a_newer_release": 1}, {}, {"of_a_newer_one": 2})
    assert host._measure.min_rounds == 7
