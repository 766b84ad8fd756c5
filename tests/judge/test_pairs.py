"""Recorded pairs are read whole or refused with their place; one figure a pair, robust and balanced."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtgate.errors import RecordError
from trtgate.judge.pairs import log_ratio, read_pairs

LINE = {
    "pair": 0,
    "case": "resnet18-tensorrt_engine-fp16-b8-graph",
    "quantity": "device",
    "arm": "aa",
    "side": "base",
    "blocks": [[1e-3, 1.1e-3, 1e-3], [1e-3, 1e-3, 1e-3]],
    "order": [[0], [3]],
}


def write(path, *lines):
    path.write_text("".join(json.dumps(LINE | line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_both_sides_make_a_pair(tmp_path):
    head = {"side": "head", "blocks": [[2e-3], [2e-3]], "order": [1, 2]}
    (pair,) = read_pairs(write(tmp_path / "p.jsonl", {}, head))
    assert pair.log_ratio == pytest.approx(np.log(2))
    assert (pair.case, pair.quantity, pair.arm) == (LINE["case"], "device", "aa")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{}], "has only its base"),
        ([{}, {}], "repeats the base"),
        ([{}, {"side": "head", "blocks": [[1.0]], "order": [[1]]}], "2 and 1 blocks"),
        ([{"order": [[0]]}], "2 blocks and 1 positions"),
        ([{"blocks": [[-1.0], [1.0]]}], "greater than 0"),
        ([{"blocks": [[], [1.0]]}], "at least 1 item"),
        ([{"arm": "+4%"}], "arm"),
        ([{"case": "no case"}], "not a case id"),
        ([{"extra": 1}], "extra"),
    ],
)
def test_damage_is_refused_with_its_place(tmp_path, lines, words):
    with pytest.raises(RecordError, match=words):
        read_pairs(write(tmp_path / "p.jsonl", *lines))


@pytest.mark.parametrize("text", ["", "\n", "{", "[1]\n", "\x00"])
def test_files_that_are_not_recorded_pairs_are_refused(tmp_path, text):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(RecordError):
        read_pairs(tmp_path / "p.jsonl")


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path):
    with pytest.raises(RecordError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError):
        read_pairs(tmp_path / "binary")


BLOCKS = st.lists(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=9), min_size=1, max_size=8)


@given(BLOCKS, st.floats(0.1, 10.0))
def test_a_pair_is_antisymmetric_and_does_not_depend_on_the_unit(blocks, factor):
    slower = [[factor * sample for sample in block] for block in blocks]
    assert log_ratio(blocks, slower) == pytest.approx(np.log(factor), abs=1e-9)
    assert log_ratio(slower, blocks) == pytest.approx(-np.log(factor), abs=1e-9)


def test_linear_drift_cancels_in_balanced_order_and_one_disturbed_block_has_no_say():
    turns = np.exp(np.linspace(0, 0.1, 16))  # ABBA four times
    base = [[turns[4 * g + p]] for g in range(4) for p in (0, 3)]
    head = [[turns[4 * g + p]] for g in range(4) for p in (1, 2)]
    assert log_ratio(base, head) == pytest.approx(0, abs=1e-9)
    head[3] = [7.0]
    assert abs(log_ratio(base, head)) < 0.01


def test_sides_of_unequal_length_are_refused():
    with pytest.raises(RecordError, match="2 blocks of the base and 1 of the head"):
        log_ratio([[1.0], [1.0]], [[1.0]])
