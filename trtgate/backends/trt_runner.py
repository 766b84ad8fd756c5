"""Runs a TensorRT engine on torch tensors."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from trtgate.backends import trt_inspect, trt_rtx, trt_runtime
from trtgate.backends.base import BuildContext, Runner
from trtgate.backends.bound_inputs import BoundInputs, in_order
from trtgate.backends.cuda_graph import CapturedGraph, capture
from trtgate.backends.plan_cache import PlanCache
from trtgate.errors import BuildError, MeasurementError

if TYPE_CHECKING:
    from trtgate.case import Case


class TensorRTEngineRunner(Runner):
    """An execution context whose inputs and outputs are torch tensors at fixed addresses.

    Without a graph an inference goes to the context's stream by its handle, whatever stream is current. The replay of a
    graph goes to the current stream, which the caller has set to the context's.

    Args:
        plan: the serialised engine.
        key: names the plan and what it was built from; TensorRT-RTX's compiled kernels are cached under it.
        case: for messages.
        context: a CUDA device and a stream that is not the default one.
        input_names: the workload's, in the order in which inputs are bound.
        output_names: the workload's, in the order in which outputs are returned.

    Raises:
        PlanError: the plan is truncated, foreign, or built by another version.
        OutOfDeviceMemoryError: weights or activations do not fit.
        BuildError: an input or output that cannot be bound.
    """

    def __init__(
        self,
        plan: bytes,
        key: Mapping[str, object],
        case: Case,
        context: BuildContext,
        input_names: Sequence[str],
        output_names: Sequence[str],
    ) -> None:
        super().__init__()
        if context.stream is None:
            raise BuildError(f"{case.id} cannot run without a CUDA stream.", "Build its plan ahead of time instead.")
        self._what = case.id
        self._stream = context.stream
        self._handle = context.stream.cuda_stream
        self._graph: CapturedGraph | None = None
        trt = trt_runtime.load()
        with context.stopwatch.stage("deserialise"):
            self._runtime = trt.Runtime(trt_runtime.logger())
            self._engine = trt_runtime.deserialise(self._runtime, plan, case.id)
        with context.stopwatch.stage("jit"), trt_runtime.collect() as messages:
            self._execution = self._new_execution(trt, key, context)
            if self._execution is None:
                raise trt_runtime.failure(case.id, "no execution context could be made", messages)
            self._bind_tensors(trt, context.device, input_names, output_names)
            self._first_run(messages)
        self._keep_kernels()
        self.facts.device_memory_bytes = self._engine.device_memory_size_v2
        self.facts.layers = self._engine.num_layers

    def _new_execution(self, trt: Any, key: Mapping[str, object], context: BuildContext) -> Any:
        self._kernels = PlanCache(context.cache / "kernels", ".kernels")
        self._kernels_key = dict(key)
        self._runtime_cache: Any = None
        # Kept for as long as the execution context that is made from it.
        self._runtime_config = runtime_config = self._engine.create_runtime_config()
        if not trt_rtx.has_runtime_config(runtime_config):
            return self._engine.create_execution_context()
        entry = self._kernels.load(self._kernels_key)
        self._runtime_cache, accepted = trt_rtx.configure(trt, runtime_config, entry.content if entry else None)
        self.facts.details["kernels_from_cache"] = accepted
        return self._engine.create_execution_context(runtime_config)

    def _bind_tensors(
        self, trt: Any, device: torch.device, input_names: Sequence[str], output_names: Sequence[str]
    ) -> None:
        engine, execution = self._engine, self._execution
        inputs: dict[str, torch.Tensor] = {}
        outputs: dict[str, torch.Tensor] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = tuple(engine.get_tensor_shape(name))
            if engine.is_shape_inference_io(name) or any(size < 0 for size in shape):
                raise BuildError(
                    f"'{name}' of {self._what} has the shape {shape}, which is not known in advance.",
                    "Export the model with static shapes.",
                )
            tensor = torch.zeros(shape, dtype=trt_runtime.torch_dtype(engine.get_tensor_dtype(name)), device=device)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                inputs[name] = tensor
                execution.set_input_shape(name, shape)
            else:
                outputs[name] = tensor
            if not execution.set_tensor_address(name, tensor.data_ptr()):
                raise BuildError(f"TensorRT refused the address of '{name}' of {self._what}.", "Report this case.")
        unknown = sorted(set(inputs) - set(input_names))
        unspecified = execution.infer_shapes()
        if unknown or unspecified:
            raise BuildError(
                f"The engine of {self._what} has inputs that nothing fills: {unknown or unspecified}.",
                "Give the workload's input_names the names of the exported inputs.",
            )
        # An input that the model does not need is pruned by the exporter.
        self._kept = [index for index, name in enumerate(input_names) if name in inputs]
        self._inputs = BoundInputs([inputs[input_names[index]] for index in self._kept], self._stream, self._what)
        self._outputs = in_order(outputs, output_names)

    def _first_run(self, messages: trt_runtime.Messages) -> None:
        """Run once: kernels that are compiled on first use are then part of this stage, not of a measurement."""
        torch.cuda.current_stream(self._stream.device).synchronize()  # the buffers were filled there
        self._execute = self._execution.execute_async_v3
        if not self._execute(self._handle):
            raise trt_runtime.failure(self._what, "its first inference was refused", messages)
        self._stream.synchronize()

    def _keep_kernels(self) -> None:
        """Keep the kernels that TensorRT-RTX compiled just now for the next process."""
        if self._runtime_cache is None or self.facts.details["kernels_from_cache"]:
            return
        kernels = trt_rtx.serialise(self._runtime_cache)
        if kernels:
            self._kernels.store(self._kernels_key, kernels, {})

    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """Copy the inputs into the engine's input tensors."""
        self._inputs.fill([inputs[index] for index in self._kept])

    def enqueue(self) -> None:
        """Hand one inference to the stream.

        Raises:
            MeasurementError: TensorRT refused it.
        """
        if not self._execute(self._handle):
            raise MeasurementError(
                f"TensorRT refused to enqueue an inference of {self._what}.", "Run with a clean cache; report the case."
            )

    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The engine's output tensors, in the workload's order."""
        return self._outputs

    def capture(self) -> None:
        """From now on an inference is the replay of a CUDA graph of one execution.

        Raises:
            CaptureError: it cannot be captured, or was not.
        """

        def run() -> tuple[torch.Tensor, ...]:
            TensorRTEngineRunner.enqueue(self)
            return self._outputs

        self._graph = capture(run, self._stream, self._what)
        self.facts.captured = True
        self.enqueue = self._graph.replay  # type: ignore[method-assign] # no Python between the caller and the launch

    def inspector_json(self) -> str:
        """What the engine tells of its layers, as TensorRT's inspector writes it.

        Raises:
            InspectionError: it tells nothing.
        """
        return trt_inspect.engine_json(trt_runtime.load(), self._engine, self._what)

    def layer_times_ms(self, repeats: int) -> dict[str, float]:
        """Median milliseconds of each layer, as TensorRT's profiler reports them; close the runner afterwards.

        Args:
            repeats: inferences, at least 1; enqueued without a graph, each followed by a synchronisation.
        """
        return trt_inspect.layer_times_ms(
            self._execution, functools.partial(TensorRTEngineRunner.enqueue, self), repeats
        )

    def close(self) -> None:
        """Drop graph, execution context, engine and buffers, in this order."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        self.__dict__.pop("enqueue", None)
        self._execute = self._execution = self._runtime_config = self._runtime_cache = None
        self._engine = self._runtime = None
        self._inputs.close()
        self._outputs = ()
