"""Whose turn it was is known after the process is gone, and nobody is blamed for another's."""

import signal
import subprocess
import sys

from trtgate.store import turn as turns
from trtgate.store.turn import Turn

DIES = """
import os, signal, sys
from pathlib import Path
from trtgate.store.turn import Turn
slot = Turn(Path(sys.argv[1])).slot()
for number in (1, 3, 2):
    slot[0] = number
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_last_turn_outlives_the_process(tmp_path):
    path = tmp_path / "stack.turn"
    done = subprocess.run([sys.executable, "-c", DIES, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Turn(path).last() == 2


def test_a_new_slot_is_nobodys_turn(tmp_path):
    turn = Turn(tmp_path / "stack.turn")
    assert turn.last() == 0
    for number in (5, 6):
        slot = turn.slot()
        assert (slot[0], turn.last()) == (0, 0)
        slot[0] = number
        assert turn.last() == number
    turn.close()
    assert turn.last() == 6
    assert turn.slot()[0] == turn.last() == 0


def test_where_no_file_can_be_mapped_nobody_is_named(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("no such device")

    monkeypatch.setattr(turns.mmap, "mmap", refused)
    turn = Turn(tmp_path / "stack.turn")
    turn.slot()[0] = 3
    assert turn.last() == 0
