"""The calls that only TensorRT-RTX has. A contract test holds this file against its API surfaces alone.

TensorRT-RTX splits a build in two: an ahead-of-time compilation that needs no GPU, and a just-in-time compilation of
kernels when an execution context is made, whose results a runtime cache keeps.
"""

from __future__ import annotations

from typing import Any, Final

# TensorRT-RTX has no SM90 to name. An engine for Ada is what a machine without a GPU builds; a GPU's own is CURRENT.
AHEAD_OF_TIME_TARGET: Final = "SM89"
# Where a bf16 depthwise convolution builds and then cannot be compiled (trtgate.precision.depthwise).
NO_BF16_DEPTHWISE: Final = ("sm_90",)


def available(config: Any) -> bool:
    """Whether this builder configuration is TensorRT-RTX's."""
    return hasattr(config, "set_compute_capability")


def set_target(trt: Any, config: Any, target: str) -> None:
    """Compile for one compute capability: ``CURRENT``, or a name such as ``SM89``."""
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)


def has_runtime_config(runtime_config: Any) -> bool:
    """Whether this runtime configuration is TensorRT-RTX's."""
    return hasattr(runtime_config, "set_runtime_cache")


def configure(trt: Any, runtime_config: Any, cached_kernels: bytes | None) -> tuple[Any, bool]:
    """Prepare a runtime configuration for measuring; return its runtime cache, and whether it took the cached kernels.

    Graphs are captured by the caller, so the runtime's own capture is off. Kernels are compiled eagerly: the default
    runs a fallback kernel until a specialised one is ready, which would change the time in the middle of a measurement.

    Args:
        trt: the module.
        runtime_config: of the engine.
        cached_kernels: what `serialise` returned earlier for the same engine; the runtime refuses them when the GPU,
            the driver or the version differ, and compiles anew.
    """
    runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
    runtime_config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    runtime_cache = runtime_config.create_runtime_cache()
    accepted = bool(cached_kernels) and bool(runtime_cache.deserialize(cached_kernels))
    runtime_config.set_runtime_cache(runtime_cache)
    return runtime_cache, accepted


def serialise(runtime_cache: Any) -> bytes:
    """The compiled kernels of a runtime cache; empty where it has none."""
    memory = runtime_cache.serialize()
    return b"" if memory is None else bytes(memoryview(memory))
