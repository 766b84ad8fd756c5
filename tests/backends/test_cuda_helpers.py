"""What can be shown of the CUDA helpers without a GPU: the poison check, and messages."""

from __future__ import annotations

import weakref

import pytest
import torch

from trtgate.backends import cuda_device
from trtgate.backends.bound_inputs import BoundInputs, in_order
from trtgate.backends.cuda_graph import capture, require_rewritten
from trtgate.case import Precision
from trtgate.errors import CaptureError, OutOfDeviceMemoryError, UsageError

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.int64,
    torch.int8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_that_a_replay_writes_pass(dtype: torch.dtype) -> None:
    outputs = (torch.zeros(2, 3).to(dtype), torch.zeros(4).to(dtype))
    written = [torch.ones(2, 3).to(dtype), torch.ones(4).to(dtype)]

    def replay() -> None:
        for output, value in zip(outputs, written, strict=True):
            output.copy_(value)

    require_rewritten(replay, outputs, lambda: None, "case")
    assert all(torch.equal(o.float(), w.float()) for o, w in zip(outputs, written, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_output_that_a_replay_leaves_alone_is_named(dtype: torch.dtype) -> None:
    outputs = (torch.zeros(2, 3).to(dtype), torch.zeros(4).to(dtype))
    with pytest.raises(CaptureError, match=r"^case could not be captured.*a replay leaves output 1 untouched\."):
        require_rewritten(lambda: outputs[0].copy_(torch.ones(2, 3).to(dtype)), outputs, lambda: None, "case")


def test_outputs_made_under_inference_mode_and_strided_views_can_be_checked() -> None:
    with torch.inference_mode():
        output = torch.zeros(4, 6)[:, ::2]

    def replay() -> None:
        output.copy_(torch.ones(4, 3))

    require_rewritten(replay, [output], lambda: None, "case")


def test_nan_outputs_were_written_too() -> None:
    output = torch.zeros(3)
    require_rewritten(lambda: output.fill_(float("nan")), [output], lambda: None, "case")


def test_a_graph_without_outputs_proves_nothing() -> None:
    with pytest.raises(CaptureError, match="no output"):
        require_rewritten(lambda: None, [], lambda: None, "case")


def test_a_graph_without_a_stream_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"no CUDA stream\. Use execution 'stream'"):
        capture(lambda: [], None, "case")


def test_running_out_of_device_memory_names_the_case_and_says_what_to_do() -> None:
    with (
        pytest.raises(OutOfDeviceMemoryError) as caught,
        cuda_device.device_memory_of("resnet50-eager-fp32-b4096-stream"),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")
    assert str(caught.value) == (
        "resnet50-eager-fp32-b4096-stream ran out of GPU memory: CUDA out of memory. Tried to allocate 20.00 GiB. "
        "Use a smaller batch or sequence, or stop the other processes on this GPU."
    )


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Failed to allocate memory for requested buffer of size 805306368",
    ],
)
def test_libraries_below_pytorch_run_out_of_memory_too(said: str) -> None:
    with pytest.raises(OutOfDeviceMemoryError, match="ran out of GPU memory"), cuda_device.device_memory_of("case"):
        raise RuntimeError(said)


def test_another_error_of_cuda_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"), cuda_device.device_memory_of("case"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Found no NVIDIA driver on your system. Please check ...",
            "There is no NVIDIA GPU here, or no driver for it.",
        ),
        (
            "The NVIDIA driver on your system is too old (found version 12040).",
            "The NVIDIA driver is too old for CUDA 13.0, which PyTorch is built for "
            "(The NVIDIA driver on your system is too old (found version 12040).)",
        ),
        ("Unexpected error from cudaGetDeviceCount().", "CUDA cannot be initialised: Unexpected error"),
    ],
)
def test_a_missing_gpu_is_told_from_an_old_driver(monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    def init() -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    cuda_device._why_cuda_is_unavailable.cache_clear()
    answer = cuda_device.cuda_answer()
    cuda_device._why_cuda_is_unavailable.cache_clear()
    assert not answer
    assert answer.reason.startswith(told)


def test_a_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in cuda_device.cuda_answer().reason


@pytest.mark.parametrize(
    ("capability", "precision", "yes"),
    [
        ((7, 5), Precision.TF32, False),
        ((7, 5), Precision.FP16, True),
        ((8, 0), Precision.BF16, True),
        ((8, 6), Precision.FP8, False),
        ((8, 9), Precision.FP8, True),
    ],
)
def test_a_gpu_lacks_a_precision_by_its_compute_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: Precision, yes: bool
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    answer = cuda_device.precision_answer(precision)
    assert bool(answer) is yes
    assert yes or f"this GPU has {capability[0]}.{capability[1]}" in answer.reason


def test_binding_converts_once_and_keeps_the_address() -> None:
    bound = BoundInputs.like([torch.zeros(2, 2, dtype=torch.float16)], torch.device("cpu"), None, "case")
    address = bound.tensors[0].data_ptr()
    bound.fill([torch.full((2, 2), 1.5, dtype=torch.float64)])
    assert bound.tensors[0].data_ptr() == address
    assert bound.tensors[0].dtype is torch.float16
    assert bound.tensors[0].tolist() == [[1.5, 1.5], [1.5, 1.5]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([torch.zeros(3, 2)], r"Input 0 of case has shape \(3, 2\), not \(2, 2\)\."),
        ([torch.zeros(2, 2), torch.zeros(1)], "takes 1 inputs, but 2 were bound"),
    ],
)
def test_binding_another_shape_is_refused(inputs: list[torch.Tensor], message: str) -> None:
    bound = BoundInputs([torch.zeros(2, 2)], None, "case")
    with pytest.raises(UsageError, match=message):
        bound.fill(inputs)


def test_outputs_come_in_the_workloads_order_where_the_names_survived() -> None:
    one, two = torch.zeros(1), torch.zeros(2)
    assert in_order({"b": two, "a": one}, ("a", "b")) == (one, two)
    assert in_order({"x": two, "y": one}, ("a", "b")) == (two, one)


def test_an_error_that_is_kept_does_not_keep_what_did_not_fit() -> None:
    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    def deep() -> None:
        big = Big()
        alive.append(weakref.ref(big))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    def build() -> None:
        with cuda_device.device_memory_of("case"):
            deep()

    with pytest.raises(OutOfDeviceMemoryError) as kept:
        build()
    assert kept.value.__cause__ is not None
    assert alive[0]() is None
