"""What caches know a project's model by, beyond what its author says of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch
from torch import nn

from trtgate.workloads import registry
from trtgate.workloads.base import Workload
from trtgate.workloads.module_digest import digest_of

SOURCE = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.activation = __ACTIVATION__

    def forward(self, x):
        return __FORWARD__
"""


@pytest.fixture
def net(tmp_path):
    def make(forward="self.activation(self.linear(x))", activation="nn.ReLU()"):
        path = tmp_path / "net.py"
        path.write_text(SOURCE.replace("__ACTIVATION__", activation).replace("__FORWARD__", forward))
        spec = importlib.util.spec_from_file_location("net", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules["net"] = module
        torch.manual_seed(0)
        return module.Net()

    yield make
    sys.modules.pop("net", None)


def test_the_same_module_has_the_same_digest(net):
    assert digest_of(net()) == digest_of(net())


def test_other_weights_buffers_layers_and_source_have_other_digests(net):
    seen = {digest_of(net())}
    changed = net()
    with torch.no_grad():
        changed.linear.bias[0] += 1e-6
    seen.add(digest_of(changed))
    changed = net()
    changed.register_buffer("scale", torch.ones(1), persistent=False)
    seen.add(digest_of(changed))
    seen.add(digest_of(net(activation="nn.Tanh()")))
    seen.add(digest_of(net(forward="self.linear(x)")))  # neither weights nor the printed structure differ
    assert len(seen) == 5


def test_an_address_in_a_printed_module_is_not_in_its_digest():
    program = (
        "from torch import nn\n"
        "from trtgate.workloads.module_digest import digest_of\n"
        "class Odd(nn.Module):\n"
        "    def extra_repr(self):\n"
        "        return repr(object())\n"
        "kept = [object() for _ in range({count})]\n"
        "print(digest_of(Odd()))\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program.format(count=count)], check=True, capture_output=True, text=True
        ).stdout
        for count in (1, 10_001)
    }
    assert len(digests) == 1


class _Given(Workload):
    name = "given"
    input_names = ("x",)
    output_names = ("y",)
    fingerprint = "never changed"

    def __init__(self, module):
        self._module = module

    def module(self):
        if self._module is None:
            raise RuntimeError("no weights")
        return self._module

    def inputs(self, batch, sequence, seed):
        return (torch.zeros(batch, 2),)


def test_a_fingerprint_that_nobody_changed_does_not_find_the_old_model():
    small, large = (_Given(nn.Sequential(*[nn.Linear(2, 2) for _ in range(count)])) for count in (1, 2))
    assert small.fingerprint == large.fingerprint
    assert small.model_key != large.model_key


def test_a_module_that_cannot_be_made_fails_where_it_is_built():
    assert _Given(None).model_key == "never changed"


@pytest.mark.parametrize("name", ["resnet18", "transformer"])
def test_our_own_are_known_by_their_fingerprint(name, tmp_path):
    workload = registry.get(name, cache=tmp_path)
    assert workload.model_key == workload.fingerprint
