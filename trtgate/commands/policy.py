"""``trtgate policy``: every key with the value that holds here, what it means, and what it may be."""

from __future__ import annotations

import argparse
from pathlib import Path

from trtgate import policy
from trtgate.commands.shared import add_policy, policy_of
from trtgate.report.effective_policy import toml_of
from trtgate.workloads import project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_policy(parser)


def run(args: argparse.Namespace) -> None:
    """Print the defaults, changed by what the file says.

    Raises:
        PolicyError: the file cannot be read, or says something that has no meaning.
    """
    path = args.policy or project.find_policy(Path.cwd())
    origin = f"{path}, and the defaults where it is silent" if path else f"the defaults: there is no {policy.FILE_NAME}"
    print(f"# The policy that holds here: {origin}.")
    print(toml_of(policy_of(args.policy)), end="")
