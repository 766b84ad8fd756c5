"""The user's own workloads, registered by a module of their repository."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trtgate.workloads import project, registry

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


def test_what_a_project_says_of_its_inputs_is_known_without_making_a_workload(tmp_path):
    module = """
        class Plain: default_sequence, has_sequence = None, False
        class Reader: default_sequence, has_sequence = 64, True
        class Later: default_sequence, has_sequence = None, True
        class Asked: default_sequence, has_sequence = property(lambda self: 8), True
        WORKLOADS = {"plain": Plain, "reader": Reader, "later": Later, "asked": Asked, "made": lambda cache: 1 / 0}
    """
    done = _ask(tmp_path, module, "k = registry.known()\nprint([k.tokens[name] for name in k.project])")
    assert done.stdout.strip() == "[None, 64, 0, 0, 0]", done.stderr


def test_the_projects_own_rules_are_those_beside_its_workloads(tmp_path):
    """And they are found without importing its code, which may need torch."""
    (tmp_path / "trtgate.toml").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "trtgate.toml").touch()
    done = _ask(
        tmp_path,
        "raise RuntimeError('imported')",
        "from trtgate.workloads import project\n"
        "print(project.find_policy(Path('elsewhere')), project.folder())\n"
        "print(registry.known_without_importing(None).complete)",
    )
    assert done.stdout.split() == [str(tmp_path / "trtgate.toml"), str(tmp_path), "False"], done.stderr


def test_without_a_project_the_nearest_rules_count(tmp_path):
    assert project.folder() is None
    assert project.find_policy(tmp_path) is None
    (tmp_path / "trtgate.toml").touch()
    assert project.find_policy(tmp_path / "below") == tmp_path / "trtgate.toml"
    assert registry.known_without_importing(tmp_path / "trtgate.toml").complete
    (tmp_path / "trtgate_workloads.py").touch()  # not on the import path
    assert not registry.known_without_importing(tmp_path / "trtgate.toml").complete


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
