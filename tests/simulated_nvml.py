"""NVML as pynvml shows it: the calls that tell GPUs apart, with the answers of a machine that is made up."""

from __future__ import annotations

from dataclasses import dataclass


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


@dataclass
class Gpu:
    """An H100; `sliced` is None where a GPU cannot be sliced by MIG."""

    name: str = "NVIDIA H100 80GB HBM3"
    capability: tuple[int, int] = (9, 0)
    uuid: str = "GPU-aaaa0000-1111-2222-3333-444455556666"
    sliced: bool | None = False


class Nvml:
    """Stands for the module: put it into ``sys.modules`` as ``pynvml``."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_UNKNOWN = 999

    def __init__(self, *gpus: Gpu, driver: str | bytes = "580.159.04", error: int | None = None) -> None:
        self.gpus, self.driver, self.error = gpus, driver, error
        self.open = 0

    def nvmlInit(self):
        if self.error is not None:
            raise NVMLError(self.error)
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlSystemGetDriverVersion(self):
        return self.driver

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.gpus[index]

    def nvmlDeviceGetName(self, handle):
        return handle.name

    def nvmlDeviceGetUUID(self, handle):
        return handle.uuid

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return handle.capability

    def nvmlDeviceGetMigMode(self, handle):
        if handle.sliced is None:
            raise NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return [int(handle.sliced), int(handle.sliced)]
