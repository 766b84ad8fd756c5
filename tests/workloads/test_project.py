"""The user's own workloads, registered by a module of their repository."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _ask(folder, module, question):
    """In a process of its own: what is registered is read once a process."""
    (folder / "trtgate_workloads.py").write_text(textwrap.dedent(module))
    script = f"from pathlib import Path\nfrom trtgate.workloads import registry\n{question}"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_project_registers_its_own_workloads(tmp_path):
    module = """
        class Detector:
            default_sequence = 16
            def __init__(self, cache): self.cache = cache
        WORKLOADS = {"detector": Detector}
    """
    done = _ask(
        tmp_path,
        module,
        "print(registry.names()[0], registry.names()[-1], registry.default_sequence('detector'),"
        " registry.get('detector', cache=Path('here')).cache)",
    )
    assert done.stdout.split() == ["simple_cnn", "detector", "16", "here"], done.stderr


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("WORKLOADS = ['detector']", "has no mapping WORKLOADS"),
        ("", "has no mapping WORKLOADS"),
        ("WORKLOADS = {'detector': 3}", "has no mapping WORKLOADS"),
        ("WORKLOADS = {'resnet18': print}", "registers 'resnet18', which trtgate itself has"),
        ("WORKLOADS = {'my-detector': print}", "The workload name 'my-detector' cannot be part of a case id"),
    ],
)
def test_a_registration_that_cannot_be_used_is_named(tmp_path, module, message):
    done = _ask(tmp_path, module, "registry.names()")
    assert message in done.stderr
    assert "UsageError" in done.stderr
