from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trtgate.measure import nvml
from trtgate.measure.device import Monitor
from trtgate.measure.nvml import Nvml


class NVMLError(Exception):
    pass


class Library:
    """pynvml with the functions that a driver has; what is not given is not supported, as NVML puts it."""

    NVMLError = NVMLError
    NVML_SUCCESS = 0
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, **answers):
        self.answers = answers

    def __getattr__(self, name):
        if name not in self.answers:
            raise AttributeError(name)
        answer = self.answers[name]

        def call(*arguments):
            if answer is NVMLError:
                raise NVMLError("Not Supported")
            return answer(*arguments) if callable(answer) else answer

        return call


def counters(*values_ns):
    return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(ullVal=value)) for value in values_ns]


def healthy(**changed):
    return {
        "nvmlDeviceGetName": b"NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 1980, 2: 2619}[kind],
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetPowerUsage": 312_500,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=7 * 2**30),
        "nvmlDeviceGetCurrentClocksEventReasons": 0,
        "nvmlDeviceGetFieldValues": counters(0, 0, 0),
        "nvmlDeviceGetComputeRunningProcesses": [],
        **changed,
    }


def monitor(**changed):
    return Monitor(torch.device("cpu"), gpu=Nvml(Library(**healthy(**changed)), "handle"))


def test_what_was_seen_is_summed_up_as_ranges():
    clocks = iter([1980, 2619, 1755, 2619])
    watch = monitor(nvmlDeviceGetClockInfo=lambda handle, kind: next(clocks))
    assert watch.look() == watch.look() == ()
    found = watch.environment(kept_blocks=2, discarded_blocks=1, steady=False)
    assert found.sm_clock_mhz == (1755, 1980)
    assert found.memory_clock_mhz == (2619, 2619)
    assert found.temperature_c == (41, 41)
    assert found.power_w == (312.5, 312.5)
    assert found.throttle_reasons == ()
    assert (found.kept_blocks, found.discarded_blocks, found.steady) == (2, 1, False)
    assert watch.memory_used_bytes() == 7 * 2**30


@pytest.mark.parametrize(
    ("bits", "disqualifies", "recorded"),
    [
        (0x1, (), ()),  # idle between two samples is no throttling
        (0x4, (), ("sw_power_cap",)),
        (0x2 | 0x10 | 0x100, (), ("applications_clocks_setting", "display_clock_setting", "sync_boost")),
        (0x8, ("hw_slowdown",), ("hw_slowdown",)),
        (0x20, ("sw_thermal_slowdown",), ("sw_thermal_slowdown",)),
        (
            0x8 | 0x40 | 0x4,
            ("hw_slowdown", "hw_thermal_slowdown"),
            ("hw_slowdown", "hw_thermal_slowdown", "sw_power_cap"),
        ),
        (0x80, ("hw_power_brake_slowdown",), ("hw_power_brake_slowdown",)),
    ],
)
def test_reasons_that_throw_a_block_away_and_reasons_that_are_recorded(bits, disqualifies, recorded):
    watch = monitor(nvmlDeviceGetCurrentClocksEventReasons=bits)
    assert watch.look() == disqualifies
    assert watch.environment().throttle_reasons == recorded


def test_throttling_that_came_and_went_between_two_looks_is_seen():
    values = iter([counters(5_000_000, 0, 0), counters(5_000_000, 0, 999_999), counters(5_000_000, 0, 3_000_000)])
    watch = monitor(nvmlDeviceGetFieldValues=lambda handle, ids: next(values))
    assert watch.look() == ()  # what was counted before the first look is not ours
    assert watch.look() == ()  # under a millisecond
    assert watch.look() == ("hw_power_brake_slowdown",)


def test_a_counter_that_the_gpu_does_not_have_is_left_out():
    unsupported = counters(0, 0, 0)
    unsupported[1].nvmlReturn = 3
    found = Nvml(Library(**healthy(nvmlDeviceGetFieldValues=unsupported)), "handle").throttled_ns()
    assert set(found) == {"sw_thermal_slowdown", "hw_power_brake_slowdown"}


def test_an_older_driver_knows_the_reasons_by_their_older_name():
    older = healthy(nvmlDeviceGetCurrentClocksEventReasons=NVMLError, nvmlDeviceGetCurrentClocksThrottleReasons=0x40)
    assert Nvml(Library(**older), "handle").clock_reasons() == {"hw_thermal_slowdown"}


@pytest.mark.parametrize("library", [Library(), Library(**dict.fromkeys(healthy(), NVMLError))])
def test_what_is_not_supported_is_none_and_never_a_crash(library):
    watch = Monitor(torch.device("cpu"), gpu=Nvml(library, "handle"))
    assert watch.look() == ()
    found = watch.environment()
    assert found.sm_clock_mhz is found.memory_clock_mhz is found.temperature_c is found.power_w is None
    assert found.neighbours == ()
    assert watch.memory_used_bytes() is None
    assert Nvml(library, "handle").name() is None


def test_a_monitor_starts_afresh_when_it_is_entered():
    bits = iter([0x4, 0])
    watch = monitor(nvmlDeviceGetCurrentClocksEventReasons=lambda handle: next(bits))
    watch.look()
    with watch as entered:
        entered.look()
        assert entered.environment().throttle_reasons == ()


def test_a_process_that_is_listed_twice_is_one_and_those_under_mps_are_listed_too():
    def listed(*processes):
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in processes]

    compute, mps = listed((7, 100), (7, None), (9, None)), listed((8, 50))
    both = healthy(nvmlDeviceGetComputeRunningProcesses=compute, nvmlDeviceGetMPSComputeRunningProcesses=mps)
    assert Nvml(Library(**both), "handle").processes() == {7: 100, 9: None, 8: 50}


def test_torch_and_nvml_meet_at_the_uuid_whatever_their_numbering(monkeypatch):
    properties = SimpleNamespace(uuid="aaaa-bbbb", pci_domain_id=0, pci_bus_id=0x1B, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)

    def by_uuid(uuid):
        if uuid == "GPU-aaaa-bbbb":
            return "the right one"
        raise NVMLError(uuid)

    found = Nvml.of(Library(nvmlDeviceGetHandleByUUID=by_uuid, nvmlDeviceGetHandleByPciBusId=NVMLError), 0)
    assert found._handle == "the right one"
    by_address = {"00000000:1b:00.0": "by address"}.__getitem__
    found = Nvml.of(Library(nvmlDeviceGetHandleByUUID=NVMLError, nvmlDeviceGetHandleByPciBusId=by_address), 0)
    assert found._handle == "by address"
    assert Nvml.of(Library(nvmlDeviceGetHandleByUUID=NVMLError, nvmlDeviceGetHandleByPciBusId=NVMLError), 0) is None


def test_a_machine_without_nvml_is_said_once(monkeypatch, caplog):
    import pynvml

    def missing():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    nvml.library.cache_clear()
    try:
        assert nvml.library() is nvml.library() is None
        assert nvml.driver_version() is None
        assert len([record for record in caplog.records if "not recorded" in record.getMessage()]) == 1
    finally:
        nvml.library.cache_clear()
