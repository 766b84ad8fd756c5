"""What ``trtgate bisect`` says while it works."""

import io
import sys

import pytest

from trtgate.commands.bisect_progress import Progress
from trtgate.measure.bisect_watch import Doing, Run


class Terminal(io.StringIO):
    def isatty(self):
        return True


def searched(clock):
    progress = Progress(clock=iter(clock).__next__)
    progress.doing("preparing CASE")
    watch = progress.watch(3)
    with watch(Run(1, 1, Doing.LOOKING)):
        pass
    with watch(Run(2, 17, Doing.NARROWING)):
        pass
    progress.finished()


def test_each_run_is_a_line_with_the_time_of_the_one_before(capsys):
    searched([0.0, 2.5, 10.0, 85.0])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "preparing CASE",
        "seed 3, run 1: looking at the model's outputs, 1 tensor shown",
        "seed 3, run 2: narrowing down, 17 tensors shown; run 1 took 2.5 s",
        "2 runs took 1 min 18 s; run 2 took 1 min 15 s",
    ]


def test_on_a_terminal_one_line_is_rewritten_and_the_answer_begins_another(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    searched([0.0, 1.0, 1.0, 2.0])
    written = sys.stderr.getvalue()
    assert written.count("\n") == 1
    assert written.endswith("\r\033[K2 runs took 2.0 s; run 2 took 1.0 s\n")


def test_a_run_is_told_although_it_fails(capsys):
    with pytest.raises(RuntimeError), Progress().watch(0)(Run(1, 1, Doing.LOOKING)):
        raise RuntimeError
    assert "seed 0, run 1" in capsys.readouterr().err
