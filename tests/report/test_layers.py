"""Layers in a file or a pipe, which has no columns to fold them for."""

import io

import pytest
from rich.console import Console

from trtgate.report.layers import show_layers

NAME = "__myl_ReshTranSlicSlicReshTranSlicReshMoveReshMoveReshMove_myl0_5"
LAYER = {
    "name": NAME,
    "kind": "kgen",
    "reads": "fp16",
    "writes": "fp16",
    "sources": ["a" * 60],
    "tactic": "",
    "ms": None,
}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_is_cut_in_two_by_a_terminal_alone(terminal):
    text = io.StringIO()
    show_layers([LAYER], Console(file=text, width=80, force_terminal=terminal, color_system=None))
    assert (NAME in text.getvalue() and "a" * 60 in text.getvalue()) is not terminal
