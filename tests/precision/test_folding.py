"""Folding BatchNorm changes no function: what a plain pattern match gets wrong is folded rightly or not at all."""

import pytest
import torch
from torch import nn

from tests.seeded_workload import SeededWorkload
from trtgate.case import Precision
from trtgate.errors import ExportError
from trtgate.precision import batch_norm, cast
from trtgate.workloads import weights


def image(*shape: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)),)


def statistics(module: nn.Module) -> nn.Module:
    """Statistics that are far from zero and one, so that a BatchNorm that is lost or used twice shows."""
    for place, part in enumerate(module.modules()):
        if isinstance(part, batch_norm.BATCH_NORM) and part.running_mean is not None:
            part.running_mean.copy_(weights.uniform(tuple(part.running_mean.shape), -2, 2, place))
            part.running_var.copy_(weights.uniform(tuple(part.running_var.shape), 0.1, 3, place))
    return module.eval().requires_grad_(False)


class SharedHead(nn.Module):
    """One convolution and a BatchNorm for each level, as in the heads of RetinaNet and EfficientDet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])

    def forward(self, image):
        return tuple(norm(self.conv(level)) for norm, level in zip(self.norms, (image, image[:, :, ::2]), strict=True))


class WithAndWithout(SharedHead):
    def forward(self, image):
        return self.norms[0](self.conv(image)), self.conv(-image)


class ReadsTheWeight(SharedHead):
    def forward(self, image):
        return self.norms[0](self.conv(image)), self.conv.weight * 2


class SharedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, image):
        return self.norm(self.left(image)) + self.norm(self.right(image))


ALL_FOLDED = {
    "shared head": (SharedHead, image(3, 9, 9)),
    "with and without": (WithAndWithout, image(3, 9, 9)),
    "weight read": (ReadsTheWeight, image(3, 9, 9)),
    "shared norm": (SharedNorm, image(3, 9, 9)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), image(3, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4)), image(3, 5, 5, 5)),
    "not affine": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)), image(3)),
    "twice": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), image(3, 9, 9)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)), image(3, 5, 5)),
    "transposed in groups": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False), nn.BatchNorm2d(6)),
        image(4, 5, 5),
    ),
    "transposed 1d": (lambda: nn.Sequential(nn.ConvTranspose1d(3, 4, 3), nn.BatchNorm1d(4)), image(3, 5)),
}


@pytest.mark.parametrize(("make", "inputs"), ALL_FOLDED.values(), ids=ALL_FOLDED)
def test_every_batch_norm_is_folded_and_the_function_is_the_same(make, inputs):
    module = statistics(make())
    before = weights.digest(module)
    made = batch_norm.folded(module, "model", inputs)
    torch.testing.assert_close(made(*inputs), module(*inputs), rtol=1e-5, atol=1e-5)
    assert not batch_norm.holds_batch_norm(made)
    assert weights.digest(module) == before


def hooked(at: int) -> nn.Sequential:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    module[at].register_forward_hook(lambda part, given, result: result.clamp(-0.5, 0.5))
    return module


class ReadTwice(SharedHead):
    def forward(self, image):
        hidden = self.conv(image)
        return self.norms[0](hidden) + hidden


SOME_LEFT = {
    "hook of a convolution": (lambda: hooked(0), image(3, 9, 9), "1", "'0' has a forward hook"),
    "hook of a BatchNorm": (lambda: hooked(3), image(3, 9, 9), "3", "'3' has a forward hook"),
    "read twice": (ReadTwice, image(3, 9, 9), "norms.0", "something else reads what 'conv' before it returns"),
    "other channels": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4)),
        image(4, 3),
        "1",
        "it normalises 4 channels and '0' before it returns 5",
    ),
    "no statistics": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        image(3, 9, 9),
        "1",
        "it has no running statistics",
    ),
    "alone": (lambda: nn.Sequential(nn.BatchNorm2d(3)), image(3, 9, 9), "0", "it does not directly follow"),
    "another kind": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4)),
        image(3, 9, 9),
        "1",
        "it is a SyncBatchNorm after a Conv2d",
    ),
}


@pytest.mark.parametrize(("make", "inputs", "path", "why"), SOME_LEFT.values(), ids=SOME_LEFT)
def test_a_batch_norm_that_is_left_says_why_and_the_function_is_the_same(make, inputs, path, why):
    module = statistics(make())
    made, left = batch_norm.fold_unchecked(module, "model")
    assert list(left) == [path]
    assert why in left[path]
    torch.testing.assert_close(made(*inputs), module(*inputs), rtol=1e-5, atol=1e-5)


def model_with_a_hook() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    module.register_forward_hook(lambda part, given, result: result * 3)
    return module


class ChoosesByType(SharedHead):
    def forward(self, image):
        return self.norms[0 if torch.is_tensor(image) else 1](self.conv(image))


OTHER_FUNCTIONS = {
    "three dimensions": (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), (4, 6)),
    "hook of the model": (model_with_a_hook, (3, 9, 9)),
    "branch on a type": (ChoosesByType, (3, 9, 9)),
}


@pytest.mark.parametrize(("build", "dimensions"), OTHER_FUNCTIONS.values(), ids=OTHER_FUNCTIONS)
def test_what_only_running_it_shows_is_left_to_the_exporter(build, dimensions):
    class Model(SeededWorkload):
        name, input_names, shape, fingerprint = "model", ("image",), dimensions, "model"
        make = staticmethod(lambda: statistics(build()))

    module = Model().module()
    with pytest.raises(ExportError, match=r"'model' is another function: the relative error of output 0 is"):
        batch_norm.folded(module, "model", image(*dimensions))
    with pytest.warns(cast.BatchNormWarning, match="is another function.*rounds more often than PyTorch"):
        kept = cast.prepare_to_export(Model(), Precision.FP16)
    assert batch_norm.holds_batch_norm(kept)
    inputs = image(*dimensions)
    kept = cast.prepare_to_export(Model(), Precision.FP32)
    torch.testing.assert_close(kept(*inputs), module(*inputs))
    with pytest.raises(ExportError, match="is another function"):
        cast.prepare(Model(), Precision.BF16)


class EightAtOnce(SharedHead):
    def forward(self, image):
        return self.norms[0](self.conv(image)).view(8, -1)


def test_the_comparison_has_the_shape_that_was_asked_for():
    class Model(SeededWorkload):
        name, input_names, shape, fingerprint = "model", ("image",), (3, 9, 9), "model"
        make = staticmethod(lambda: statistics(EightAtOnce()))

        def inputs(self, batch, sequence, seed):
            assert batch == 8, "the module takes no other"
            return super().inputs(batch, sequence, seed)

    for made in (cast.prepare_to_export(Model(), Precision.FP16, 8), cast.prepare(Model(), Precision.BF16, 8)):
        assert not batch_norm.holds_batch_norm(made)


class ChoosesByDatatype(SharedHead):
    def forward(self, image):
        return self.norms[{torch.float32: 0, torch.float16: 0}[image.dtype]](self.conv(image))


class Raises(SharedHead):
    def forward(self, image):
        if not isinstance(image, torch.Tensor):
            raise ValueError("not a tensor.\nMore of it.")
        return self.norms[0](self.conv(image))


@pytest.mark.parametrize(("kind", "seen"), [(ChoosesByDatatype, r"KeyError: .*"), (Raises, "ValueError: not a tensor")])
def test_whatever_the_models_own_code_raises_is_a_reason_not_to_fold(kind, seen):
    with pytest.raises(ExportError, match=rf"torch\.fx cannot trace it \({seen}\)\. Make") as raised:
        batch_norm.folded(statistics(kind()), "model", image(3, 9, 9))
    assert isinstance(raised.value.__cause__, (KeyError, ValueError))
