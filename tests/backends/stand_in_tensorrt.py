"""A TensorRT module made from an API surface: it has that release's names and no other, and records every call.

TensorRT itself cannot run without a GPU. This shows which calls the code makes on each release, not that they work.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock


class Tensor:
    """An input or output of the stand-in engine."""

    def __init__(self, name: str, mode: str, shape: tuple[int, ...], dtype: str) -> None:
        self.name, self.mode, self.shape, self.dtype = name, mode, shape, dtype


class StandIn(SimpleNamespace):
    """The module. Enumerations hold the names of their members; classes make mocks limited to their members."""

    def __init__(self, surface: dict[str, list[str]], name: str, tensors: list[Tensor]) -> None:
        super().__init__(__name__=name.rsplit("-", 1)[0], __version__=name.rsplit("-", 1)[1], __file__=name)
        self._surface = surface
        for owner, members in surface.items():
            public = [member for member in members if not member.startswith("_")]
            values = {member: f"{owner}.{member}" for member in public}
            setattr(self, owner, type(owner, (), values))
        self.NetworkDefinitionCreationFlag = type("Flag", (), {"STRONGLY_TYPED": 1})
        self.config = self.make("IBuilderConfig")
        self.flags = {"TF32"}  # on by default, as in every release
        self.config.set_flag.side_effect = lambda flag: self.flags.add(flag.rsplit(".")[-1])
        self.config.clear_flag.side_effect = lambda flag: self.flags.discard(flag.rsplit(".")[-1])
        self.config.get_flag.side_effect = lambda flag: flag.rsplit(".")[-1] in self.flags
        self.network = self.make("INetworkDefinition", num_outputs=1, num_layers=3)
        self.builder = self.make("Builder")
        self.builder.create_builder_config.return_value = self.config
        self.builder.create_network.return_value = self.network
        self.builder.build_serialized_network.return_value = b"a plan"
        self.Builder = Mock(return_value=self.builder)
        self.parser = self.make("OnnxParser", num_errors=0)
        self.OnnxParser = Mock(return_value=self.parser)
        self.execution = self.make("IExecutionContext")
        self.execution.infer_shapes.return_value = []
        self.engine = self._engine(tensors)
        self.runtime = self.make("Runtime")
        self.runtime.deserialize_cuda_engine.return_value = self.engine
        self.Runtime = Mock(return_value=self.runtime)

    def make(self, owner: str, **values: object) -> Any:
        """A mock that has the members of one class of this release and refuses every other name."""
        made = Mock(spec_set=[member for member in self._surface[owner] if not member.startswith("__")])
        for name, value in values.items():
            setattr(made, name, value)
        return made

    def _engine(self, tensors: list[Tensor]) -> Any:
        engine = self.make("ICudaEngine", num_io_tensors=len(tensors), device_memory_size_v2=4096, num_layers=2)
        by_name = {tensor.name: tensor for tensor in tensors}
        engine.get_tensor_name.side_effect = lambda index: tensors[index].name
        engine.get_tensor_shape.side_effect = lambda name: by_name[name].shape
        engine.get_tensor_dtype.side_effect = lambda name: f"DataType.{by_name[name].dtype}"
        engine.get_tensor_mode.side_effect = lambda name: f"TensorIOMode.{by_name[name].mode}"
        engine.is_shape_inference_io.return_value = False
        self.runtime_config = self.make("IRuntimeConfig")
        if "IRuntimeCache" in self._surface:
            self.runtime_cache = self.make("IRuntimeCache")
            self.runtime_cache.serialize.return_value = b"compiled kernels"
            self.runtime_cache.deserialize.return_value = True
            self.runtime_config.create_runtime_cache.return_value = self.runtime_cache
        engine.create_runtime_config.return_value = self.runtime_config
        engine.create_execution_context.return_value = self.execution
        return engine
