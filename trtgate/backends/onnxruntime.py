"""ONNX Runtime on the same ONNX file as the engine: its CPU provider, or its CUDA provider where that loads.

Inputs and outputs are torch tensors, bound by address once; a run copies and allocates nothing of ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from trtgate import artefacts
from trtgate.backends.base import YES, Answer, Backend, BuildContext, Runner, no
from trtgate.backends.bound_inputs import BoundInputs, in_order
from trtgate.backends.cuda_device import cuda_answer, out_of_memory, precision_answer
from trtgate.backends.host_cpu import EXACT_INT8, cpu_model
from trtgate.case import Case, Execution, Precision
from trtgate.errors import BuildError

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

_DTYPES: Final = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(bfloat16)": torch.bfloat16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
_CUDA_PROVIDER: Final = "CUDAExecutionProvider"
_CPU_PROVIDER: Final = "CPUExecutionProvider"


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime with all graph optimisations and as many threads as PyTorch has."""

    name = "onnxruntime"

    def availability(self) -> Answer:
        """Whether the package can be imported."""
        try:
            import onnxruntime  # noqa: F401
        except (ImportError, OSError) as error:
            return no(f"onnxruntime cannot be imported: {' '.join(str(error).split()).rstrip('.')}.")
        return YES

    def supports(self, case: Case) -> Answer:
        """What the provider that would be used here has kernels for."""
        if case.execution is Execution.GRAPH:
            return no("ONNX Runtime does not tell whether its CUDA provider captured a graph.")
        if cuda_answer() and not _cuda_provider():
            return no(f"On a GPU machine it would run on the CPU: {_cuda_provider().reason}")
        cuda = bool(_cuda_provider())
        if case.precision is Precision.FP8:
            return no("ONNX Runtime has no fp8 kernels for convolutions and matrix products.")
        if case.precision is Precision.BF16 and not cuda:
            return no("ONNX Runtime's CPU provider has no bf16 kernels for convolutions.")
        return precision_answer(case.precision)

    def build(self, workload: Workload, case: Case, context: BuildContext) -> Runner:
        """Export the workload, optimise the graph, and bind buffers."""
        from trtgate.backends import onnx_export

        self.require_available()
        self.require_supported(case)
        path = onnx_export.export(workload, case, context.cache, context.stopwatch, context.calibration)
        cuda = context.device.type == "cuda"
        name = artefacts.key(
            model=artefacts.digest(path),
            version=_version(),
            device=context.device.type,
            # Layouts and the signs of int8 are chosen for the CPU's instructions, so an optimised graph is of one kind.
            cpu=None if cuda else cpu_model(),
        )
        optimised = context.cache / "onnxruntime" / f"{name}.onnx"
        from_cache = not cuda and artefacts.intact(optimised)
        with context.stopwatch.stage("build"):
            session = _session(path, optimised, case, context)
            runner = OnnxRuntimeRunner(session, case, context, workload.input_names, workload.output_names)
        runner.facts.from_cache = from_cache
        runner.facts.plan_bytes = path.stat().st_size
        runner.facts.layers = _node_count(optimised)
        runner.facts.details["optimised_model"] = optimised.name
        runner.facts.details.update(onnx_export.quantisation_facts(path, case.precision))
        runner.bind(workload.inputs(case.batch, case.sequence, seed=0))
        return runner


@functools.cache
def _cuda_provider() -> Answer:
    import onnxruntime

    if _CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return no("this onnxruntime is built without the CUDA provider (install onnxruntime-gpu).")
    gpu = cuda_answer()
    return YES if gpu else gpu


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _session(path: Path, optimised: Path, case: Case, context: BuildContext) -> Any:
    """A session of the optimised graph, which is made first where it is not intact.

    On the CPU the graph is always run as it was read back, in the first process as in any later one: the same nodes,
    with the same results bit by bit. That a graph of the CUDA provider survives this has not been shown, so there the
    session that optimised it is used, and it is made anew each time.
    """
    if context.device.type == "cuda":
        made: list[Any] = []
        artefacts.write(optimised, lambda file: made.append(_opened(path, case, context, write_to=file)))
        return made[0]
    if not artefacts.intact(optimised):
        artefacts.write(optimised, lambda file: _optimise(path, case, context, file))
    return _opened(optimised, case, context)


def _optimise(path: Path, case: Case, context: BuildContext, file: Path) -> None:
    _opened(path, case, context, write_to=file)


def _opened(path: Path, case: Case, context: BuildContext, write_to: Path | None = None) -> Any:
    """A session of a file that is optimised already, or, where the result is to be written, of one that is not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if write_to is None else levels.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Worker threads that go on spinning after a run would slow whoever takes the next turn on the same cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry(*EXACT_INT8)
    if write_to is not None:
        options.optimized_model_filepath = str(write_to)
    cuda = context.device.type == "cuda"
    provider_options: dict[str, str] = {"use_tf32": "1" if case.precision is Precision.TF32 else "0"}
    if context.stream is not None:
        provider_options |= {"user_compute_stream": str(context.stream.cuda_stream), "has_user_compute_stream": "1"}
    providers = [(_CUDA_PROVIDER, provider_options), _CPU_PROVIDER] if cuda else [_CPU_PROVIDER]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except _session_errors() as error:
        reason = " ".join(str(error).split()).rstrip(".")
        if "out of memory" in reason.lower():
            raise out_of_memory(case.id, reason) from error
        raise BuildError(
            f"ONNX Runtime cannot build {case.id}: {reason}.", "Use another precision or backend for this workload."
        ) from error
    if cuda and session.get_providers()[0] != _CUDA_PROVIDER:
        raise BuildError(
            f"ONNX Runtime's CUDA provider did not load for {case.id}.",
            "Install the onnxruntime-gpu release that matches this CUDA version.",
        )
    return session


def _session_errors() -> tuple[type[Exception], ...]:
    """What making or running a session raises: one class a status code, derived from Exception alone."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
        state.EPFail,
    )


def _node_count(optimised: Path) -> int:
    import onnx

    graph = onnx.load(optimised, load_external_data=False).graph
    return len(graph.node)


class OnnxRuntimeRunner(Runner):
    """A session whose inputs and outputs are bound to torch tensors.

    Args:
        session: with static shapes.
        case: for messages.
        context: device and stream.
        input_names: the workload's, in the order in which inputs are bound.
        output_names: the workload's, in the order in which outputs are returned.
    """

    def __init__(
        self,
        session: Any,
        case: Case,
        context: BuildContext,
        input_names: Sequence[str],
        output_names: Sequence[str],
    ) -> None:
        super().__init__()
        self._session = session
        self._binding = session.io_binding()
        device = context.device
        stated = {one.name: one for one in session.get_inputs()}
        unknown = sorted(set(stated) - set(input_names))
        if unknown:
            raise BuildError(
                f"The ONNX file of {case.id} has inputs {unknown}, which the workload does not name.",
                "Give the workload's input_names the names of the exported inputs.",
            )
        # An input that the model does not need is pruned by the exporter; its buffer keeps the order of the rest.
        self._kept = [index for index, name in enumerate(input_names) if name in stated]
        buffers = [_tensor(stated[input_names[index]], device, case.id) for index in self._kept]
        self._inputs = BoundInputs(buffers, context.stream, case.id)
        outputs = {one.name: _tensor(one, device, case.id) for one in session.get_outputs()}
        for index, buffer in zip(self._kept, buffers, strict=True):
            self._binding.bind_input(input_names[index], *_where(buffer))
        for name, buffer in outputs.items():
            self._binding.bind_output(name, *_where(buffer))
        self._outputs = in_order(outputs, output_names)
        options = session.get_session_options()
        self.facts.details["session"] = {
            "providers": session.get_providers(),
            "intra_op_threads": options.intra_op_num_threads,
            "inter_op_threads": options.inter_op_num_threads,
            "graph_optimisation": "all",
            "force_spinning_stop": True,
        }
        self._run: Callable[[], None] | None = functools.partial(
            session.run_with_iobinding, self._binding, _run_options(device)
        )

    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """Copy the inputs into the bound tensors."""
        self._inputs.fill([inputs[index] for index in self._kept])

    def enqueue(self) -> None:
        """Run the session once."""
        assert self._run is not None, "enqueue after close"
        self._run()

    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The bound output tensors, in the workload's order."""
        return self._outputs

    def close(self) -> None:
        """Drop the session and the buffers."""
        self._session = self._binding = self._run = None
        self._inputs.close()
        self._outputs = ()


def _run_options(device: torch.device) -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    if device.type == "cuda":
        # An inference is asynchronous by contract; whoever reads the outputs waits for the stream.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def _tensor(stated: Any, device: torch.device, what: str) -> torch.Tensor:
    if stated.type not in _DTYPES or not all(isinstance(size, int) for size in stated.shape):
        raise BuildError(
            f"'{stated.name}' of {what} is a {stated.type} of shape {stated.shape}, which cannot be bound in advance.",
            "Export the model with static shapes and datatypes that torch tensors have.",
        )
    return torch.zeros(stated.shape, dtype=_DTYPES[stated.type], device=device)


def _where(tensor: torch.Tensor) -> tuple[str, int, int, list[int], int]:
    """Device, its index, ONNX datatype, shape and address, as IO binding takes them."""
    import onnx

    codes = {
        torch.float32: onnx.TensorProto.FLOAT,
        torch.float16: onnx.TensorProto.FLOAT16,
        torch.bfloat16: onnx.TensorProto.BFLOAT16,
        torch.int64: onnx.TensorProto.INT64,
        torch.int32: onnx.TensorProto.INT32,
        torch.int8: onnx.TensorProto.INT8,
        torch.uint8: onnx.TensorProto.UINT8,
        torch.bool: onnx.TensorProto.BOOL,
    }
    device = tensor.device
    return device.type, device.index or 0, int(codes[tensor.dtype]), list(tensor.shape), tensor.data_ptr()
