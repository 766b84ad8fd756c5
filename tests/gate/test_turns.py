import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtgate.gate.turns import balanced


@given(
    sides=st.integers(2, 6),
    blocks=st.integers(1, 6).map(lambda half: 2 * half),
    seed=st.integers(0, 2**32),
)
def test_every_side_has_its_blocks_and_the_same_mean_position(sides, blocks, seed):
    order = balanced(range(sides), blocks, random.Random(seed))
    assert Counter(order) == dict.fromkeys(range(sides), blocks)
    positions = [[at for at, side in enumerate(order) if side == wanted] for wanted in range(sides)]
    assert {sum(position) for position in positions} == {sum(positions[0])}  # so a linear drift cancels


def test_two_sides_go_abba_or_baab_and_both_happen():
    rng = random.Random(7)
    seen = {"".join(balanced("AB", 2, rng)) for _ in range(50)}
    assert seen == {"ABBA", "BAAB"}


@pytest.mark.parametrize("blocks", [-2, 0, 1, 3])
def test_a_number_of_blocks_that_cannot_be_balanced_is_refused(blocks):
    with pytest.raises(ValueError, match="even"):
        balanced("AB", blocks, random.Random(0))
