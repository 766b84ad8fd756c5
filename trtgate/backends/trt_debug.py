"""Intermediate tensors of a TensorRT engine, through its debug tensors. Needs a GPU.

A tensor that is marked by `INetworkDefinition.mark_debug` is written out by the engine and handed to a listener. That
prevents fusions across it, so what is shown may differ from what the engine computes when nobody looks: mark few.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from trtgate.backends import trt_build, trt_runtime
from trtgate.backends.cuda_device import cuda_answer
from trtgate.case import Precision
from trtgate.errors import BackendAbsentError, BuildError, InspectionError

Array = npt.NDArray[Any]
Show: TypeAlias = Literal["auto", "debug", "outputs"]
_TYPE_STRINGS = {
    torch.float32: "<f4",
    torch.float16: "<f2",
    # __cuda_array_interface__ has no name for it: its bits travel as int16.
    torch.bfloat16: "<i2",
    torch.int64: "<i8",
    torch.int32: "<i4",
    torch.int8: "|i1",
    torch.uint8: "|u1",
    torch.bool: "|b1",
    torch.float8_e4m3fn: "|u1",
}


class TensorRTTensors:
    """Shows tensors of the engine that TensorRT builds from an ONNX file; one build for each set that is asked for.

    Args:
        onnx_path: the model, with static shapes.
        precision: of the case; decides the TF32 flag.
        what: the case's id, for messages.
        inputs: CUDA tensors by name, in the model's datatypes.
        show: ``debug`` marks debug tensors; ``outputs`` adds network outputs; ``auto`` marks debug tensors until the
            runtime does not show them, and adds outputs from then on.

    Attributes:
        without_debug: why debug tensors were given up, None where they were not.

    Raises:
        BackendAbsentError: no TensorRT or no GPU.
    """

    def __init__(
        self,
        onnx_path: Path,
        precision: Precision,
        what: str,
        inputs: Mapping[str, torch.Tensor],
        *,
        show: Show = "auto",
    ) -> None:
        gpu = cuda_answer()
        if not gpu:
            raise BackendAbsentError(
                f"The engine of {what} cannot be run here: {gpu.reason}", "Bisect on a machine with a GPU."
            )
        self._trt = trt_runtime.load()
        self._onnx_path = onnx_path
        self._precision = precision
        self._what = what
        self._inputs = dict(inputs)
        self._show = show
        self.without_debug: str | None = None

    def values(self, tensors: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """Build an engine that shows these tensors, run it once, and yield those that it has.

        Tensors that the network does not name (the parser made several of one, or none) are left out.

        Raises:
            BuildError: the engine cannot be built with these tensors marked.
            InspectionError: the engine ran and showed none of them.
        """
        given = {name: _host(self._inputs[name]) for name in tensors if name in self._inputs}
        wanted = [name for name in tensors if name not in given]
        found = given | (self._shown(wanted) if wanted else {})
        yield from ((name, found[name]) for name in tensors if name in found)

    def _shown(self, wanted: Sequence[str]) -> dict[str, Array]:
        if self._show != "auto":
            return self._run(wanted, self._show)
        try:
            return self._run(wanted, "debug")
        except (BuildError, InspectionError) as error:
            # TensorRT-RTX 1.4 takes the marks and shows nothing.
            self.without_debug = error.problem
            self._show = "outputs"
            return self._run(wanted, "outputs")

    def _run(self, wanted: Sequence[str], show: Literal["debug", "outputs"]) -> dict[str, Array]:
        marked: set[str] = set()
        built = trt_build.build(
            self._onnx_path,
            self._precision,
            self._what,
            _Untimed(),
            ahead_of_time=False,
            on_network=lambda network: marked.update(_mark(network, set(wanted), self._what, show)),
        )
        runtime = self._trt.Runtime(trt_runtime.logger())
        engine = trt_runtime.deserialise(runtime, built.plan, self._what)
        execution = engine.create_execution_context()
        if execution is None:
            raise BuildError(f"No execution context of {self._what} could be made.", "Free device memory.")
        shown: dict[str, Array] = {}
        listener = _listener(self._trt, shown)
        # One call turns every marked tensor on; RTX and TensorRT share it.
        listening = show == "outputs" or (
            execution.set_debug_listener(listener) and execution.set_all_tensors_debug_state(True)
        )
        if not listening:
            raise InspectionError(
                f"TensorRT refused a debug listener for {self._what}.", "Bisect with '--show outputs' instead."
            )
        outputs = self._bind(engine, execution)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        if not execution.execute_async_v3(stream.cuda_stream):
            raise InspectionError(f"TensorRT refused to run {self._what}.", "Bisect with '--show outputs' instead.")
        stream.synchronize()
        for name, tensor in outputs.items():
            if name in wanted:
                shown[name] = _host(tensor)
        # The network's own outputs are shown whether marks are heeded or not.
        if marked and marked.isdisjoint(shown):
            raise InspectionError(
                f"The engine of {self._what} showed none of the {len(marked)} tensors that were marked.",
                "Bisect with '--show outputs' instead.",
            )
        return {name: value for name, value in shown.items() if name in wanted}

    def _bind(self, engine: Any, execution: Any) -> dict[str, torch.Tensor]:
        outputs: dict[str, torch.Tensor] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT:
                tensor = self._inputs[name]
                execution.set_input_shape(name, tuple(tensor.shape))
            else:
                dtype = trt_runtime.torch_dtype(engine.get_tensor_dtype(name))
                tensor = torch.zeros(tuple(engine.get_tensor_shape(name)), dtype=dtype, device="cuda")
                outputs[name] = tensor
            execution.set_tensor_address(name, tensor.data_ptr())
        return outputs


class _Untimed:
    """A stopwatch for builds that nobody times."""

    def stage(self, name: str) -> nullcontext[None]:
        del name
        return nullcontext()


def _mark(network: Any, wanted: set[str], what: str, show: Literal["debug", "outputs"]) -> set[str]:
    """Mark what is wanted and no output of the network; the names that were found."""
    marked = set()
    outputs = {network.get_output(index).name for index in range(network.num_outputs)}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for slot in range(layer.num_outputs):
            network_tensor = layer.get_output(slot)
            if network_tensor is None or network_tensor.name not in wanted - outputs:
                continue
            if show == "outputs":
                network.mark_output(network_tensor)
            elif not network.mark_debug(network_tensor):
                raise BuildError(
                    f"TensorRT refused to mark '{network_tensor.name}' of {what} as a debug tensor.",
                    "Bisect with '--show outputs' instead.",
                )
            marked.add(network_tensor.name)
    return marked


def _listener(trt: Any, shown: dict[str, Array]) -> Any:
    class Listener(trt.IDebugListener):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)

        # The address is valid during this call alone, so the copy is made here.
        def process_debug_tensor(
            self,
            addr: Any,
            location: Any,
            type: Any,  # noqa: A002 - TensorRT's own name, which it may pass by keyword
            shape: Any,
            name: str,
            stream: Any,
        ) -> bool:
            torch.cuda.ExternalStream(int(stream)).synchronize()  # type: ignore[no-untyped-call]
            dtype = trt_runtime.torch_dtype(type)
            if location == trt.TensorLocation.DEVICE:
                shown[name] = _host(_device_view(_pointer(addr), tuple(shape), dtype))
            return True

    return Listener()


def _pointer(address: Any) -> int:
    """The address as a number: some releases hand over a PyCapsule, some an integer."""
    if isinstance(address, int):
        return address
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(api.PyCapsule_GetPointer(address, api.PyCapsule_GetName(address)))


def _device_view(pointer: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    class View:
        def __init__(self) -> None:
            # Version 2: version 3 would let torch look for a stream to synchronise with.
            self.__cuda_array_interface__ = {
                "shape": shape,
                "typestr": _TYPE_STRINGS[dtype],
                "data": (pointer, False),
                "version": 2,
            }

    tensor: torch.Tensor = torch.as_tensor(View(), device="cuda")
    return tensor.view(dtype) if tensor.dtype is not dtype else tensor


def _host(tensor: torch.Tensor) -> Array:
    widened = tensor.float() if tensor.is_floating_point() else tensor
    return np.asarray(widened.cpu().numpy())
