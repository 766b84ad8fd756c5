"""What NVML tells of one GPU. Whatever it does not support is None, never a crash."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import Any, Final, Self

import torch

_log = logging.getLogger(__name__)
_PER_CENT: Final = 100

# nvmlClocksEventReasons bits (nvml.h). Spelt out because bindings renamed them from ThrottleReasons in 2023.
_REASONS: Final = {
    0x02: "applications_clocks_setting",
    0x04: "sw_power_cap",
    0x08: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}

# Nanoseconds spent throttled since the driver was loaded, by reason (nvml.h, NVML_FI_DEV_CLOCKS_EVENT_REASON_*). They
# show what came and went between two looks, which the momentary bits miss.
_COUNTERS: Final = {
    "sw_thermal_slowdown": 269,
    "hw_thermal_slowdown": 270,
    "hw_power_brake_slowdown": 271,
}


class Nvml:
    """One GPU, as NVML sees it.

    Args:
        library: the pynvml module, initialised.
        handle: NVML's handle of the GPU.
    """

    def __init__(self, library: ModuleType, handle: Any) -> None:
        self._library = library
        self._handle = handle

    @classmethod
    def of(cls, library: ModuleType, index: int) -> Self | None:
        """The GPU that torch calls ``index``, None where NVML does not know it.

        The two number GPUs differently (CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER), so they meet at the UUID, and at the
        PCI address where a virtual GPU hides its UUID.
        """
        properties: Any = torch.cuda.get_device_properties(index)
        uuid = str(properties.uuid)
        address = f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
        for ask, key in (
            ("nvmlDeviceGetHandleByUUID", f"GPU-{uuid}"),
            ("nvmlDeviceGetHandleByUUID", f"MIG-{uuid}"),
            ("nvmlDeviceGetHandleByPciBusId", address),
        ):
            for spelling in (key, key.encode()):  # bindings before 12 take bytes
                try:
                    return cls(library, getattr(library, ask)(spelling))
                except (library.NVMLError, TypeError):
                    continue
        return None

    def name(self) -> str | None:
        """GPU model."""
        return _text(self._ask("nvmlDeviceGetName"))

    def sm_clock_mhz(self) -> int | None:
        """Clock of the streaming multiprocessors."""
        return _whole(self._ask("nvmlDeviceGetClockInfo", self._library.NVML_CLOCK_SM))

    def memory_clock_mhz(self) -> int | None:
        """Clock of the device memory."""
        return _whole(self._ask("nvmlDeviceGetClockInfo", self._library.NVML_CLOCK_MEM))

    def temperature_c(self) -> int | None:
        """Core temperature."""
        return _whole(self._ask("nvmlDeviceGetTemperature", self._library.NVML_TEMPERATURE_GPU))

    def power_w(self) -> float | None:
        """Draw of the whole board."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else float(milliwatts) / 1000

    def memory_used_bytes(self) -> int | None:
        """Device memory in use, by every process."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def clock_reasons(self) -> frozenset[str]:
        """Why the clocks are not higher at this moment; being idle is not listed."""
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # drivers before 535 know the old name only
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return frozenset(name for bit, name in _REASONS.items() if int(bits or 0) & bit)

    def throttled_ns(self) -> dict[str, int]:
        """Nanoseconds throttled so far, by reason; reasons that this GPU does not count are left out."""
        fields = self._ask("nvmlDeviceGetFieldValues", list(_COUNTERS.values()))
        return {
            reason: int(field.value.ullVal)
            for reason, field in zip(_COUNTERS, fields or (), strict=False)
            if field.nvmlReturn == self._library.NVML_SUCCESS
        }

    def processes(self) -> dict[int, int | None] | None:
        """Bytes of device memory that each process on the GPU holds, by its id, also under MPS.

        A figure is None where NVML keeps it to itself, and the whole is None where it lists nobody. In a container,
        older drivers give the host's ids, and newer ones the container's own, without those of other containers.
        """
        listed = self._ask("nvmlDeviceGetComputeRunningProcesses")
        if listed is None:
            return None
        found: dict[int, int | None] = {}
        for process in [*listed, *(self._ask("nvmlDeviceGetMPSComputeRunningProcesses") or ())]:
            held = getattr(process, "usedGpuMemory", None)
            known = found.get(int(process.pid))
            # The same process may be listed twice, with the same figure.
            found[int(process.pid)] = known if held is None else max(int(held), known or 0)
        return found

    def computed_since(self, moment_us: int) -> tuple[frozenset[int], int]:
        """Ids of processes that were seen to compute after a moment, whether or not they still run.

        The driver samples this by itself, several times a second, and keeps the samples of some seconds.

        Args:
            moment_us: time of the newest sample that is known, 0 for all that are kept.

        Returns:
            The ids, and the time of the newest sample.
        """
        samples = [
            sample
            for sample in self._ask("nvmlDeviceGetProcessUtilization", moment_us) or ()
            # Unused places of the driver's buffer are returned too.
            if sample.pid and sample.timeStamp > moment_us and 0 < max(sample.smUtil, sample.memUtil) <= _PER_CENT
        ]
        newest_us = max((int(sample.timeStamp) for sample in samples), default=moment_us)
        return frozenset(int(sample.pid) for sample in samples), newest_us

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Call NVML; None where the bindings, the driver or the GPU cannot answer."""
        call = getattr(self._library, function, None)
        if call is None:
            return None
        try:
            return call(self._handle, *arguments)
        except self._library.NVMLError as error:
            _log.debug("%s: %s", function, error)
            return None


@cache
def library() -> ModuleType | None:
    """pynvml, initialised; None, and said once, where it or the driver's library is missing."""
    try:
        import pynvml
    except ImportError:
        _log.warning("nvidia-ml-py is not installed: clocks, throttling and neighbours are not recorded.")
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _log.warning("NVML cannot be used (%s): clocks, throttling and neighbours are not recorded.", error)
        return None
    return pynvml  # type: ignore[no-any-return]  # the bindings are untyped


def driver_version() -> str | None:
    """Version of the NVIDIA driver, None without one."""
    pynvml = library()
    if pynvml is None:
        return None
    try:
        return _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


@cache
def gpu(index: int) -> Nvml | None:
    """NVML's view of the GPU that torch calls ``index``; None, and said once, where there is none."""
    pynvml = library()
    found = Nvml.of(pynvml, index) if pynvml is not None else None
    if pynvml is not None and found is None:
        _log.warning("NVML does not know GPU %d: clocks, throttling and neighbours are not recorded.", index)
    return found


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
