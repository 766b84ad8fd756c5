import subprocess
import sys

import pytest

from trtgate.case import Case
from trtgate.errors import UnknownValueError
from trtgate.workloads import registry, torchvision_zoo


def test_names_are_fit_for_case_ids():
    for name in registry.names():
        assert Case.parse(f"{name}-eager-fp32-b1-stream").workload == name


def test_an_unknown_name_is_refused_with_the_known_ones_and_the_nearest(tmp_path):
    with pytest.raises(UnknownValueError) as caught:
        registry.get("resnet81", cache=tmp_path)
    assert "Unknown workload 'resnet81'" in str(caught.value)
    assert "Did you mean 'resnet18'?" in str(caught.value)
    assert "vit_b_16" in str(caught.value)
    with pytest.raises(UnknownValueError):
        registry.default_sequence("bert")


def test_every_name_yields_a_workload_of_that_name_without_touching_the_cache(tmp_path):
    workloads = [registry.get(name, cache=tmp_path) for name in registry.names()]
    assert tuple(workload.name for workload in workloads) == registry.names()
    assert list(tmp_path.iterdir()) == []


def test_what_the_registry_says_without_torch_is_what_the_workloads_say(tmp_path):
    assert set(torchvision_zoo.NAMES) <= set(registry.names())
    for name in registry.names():
        assert registry.default_sequence(name) == registry.get(name, cache=tmp_path).default_sequence


def test_names_do_not_import_torch():
    program = "import sys; from trtgate.workloads import registry; registry.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
