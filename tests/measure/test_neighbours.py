"""Who else is on the GPU, whatever NVML calls this process; and when that is looked at."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch
from simulated_gpu import SimulatedNvml

from trtgate.measure.device import Monitor
from trtgate.measure.neighbours import Neighbours, is_contained, own_ids
from trtgate.measure.nvml import Nvml
from trtgate.measure.timing import Certainty
from trtgate.measure.timing.rounds import take_turns
from trtgate.policy import MeasureSettings

MIB = 2**20
ME = os.getpid()
HOSTS_ME = 2_000_000_001  # what the host calls this process, which it cannot know


def told_apart(driver, *, contained=True):
    found = Neighbours(Nvml(driver, "handle"), driver.probe, contained=contained)
    found.identify()
    return found


def watching(driver, *, contained=True):
    return Monitor(torch.device("cpu"), gpu=Nvml(driver, "handle"), others=told_apart(driver, contained=contained))


def who_computed(driver, *looks, contained=True):
    """Neighbours of a measurement, after each look at who computed since the one before."""
    told = []
    with watching(driver, contained=contained) as watch:
        for count, ids in enumerate(looks, start=1):
            driver.computed = [(pid, 1_000 * count, 90) for pid in ids]
            watch.look()
            told.append(watch.environment().neighbours)
    return told


def test_neighbours_are_the_others():
    assert told_apart(SimulatedNvml({7: MIB, ME: MIB, 9: None})).present() == {7, 9}


def test_the_ids_of_this_process_are_those_of_every_namespace_that_it_sees(monkeypatch, tmp_path):
    status = tmp_path / "status"
    status.write_text(f"Name:\tpython\nNSpid:\t{HOSTS_ME}\t{ME}\nVmHWM:\t1 kB\n")
    monkeypatch.setattr("trtgate.measure.neighbours._STATUS", status)
    assert own_ids() == {ME, HOSTS_ME}
    assert told_apart(SimulatedNvml({HOSTS_ME: MIB, HOSTS_ME + 1: MIB})).present() == {HOSTS_ME + 1}
    status.unlink()
    assert own_ids() == {ME}


@pytest.mark.parametrize("neighbour", [HOSTS_ME - 1, HOSTS_ME + 1])
def test_in_a_container_the_process_that_holds_our_memory_is_ours_whoever_came_last(neighbour):
    assert told_apart(SimulatedNvml({neighbour: 900 * MIB}, me=HOSTS_ME)).present() == {neighbour}
    assert told_apart(SimulatedNvml({HOSTS_ME: MIB, neighbour: 900 * MIB}, me=HOSTS_ME)).present() == {neighbour}


def test_in_a_container_that_hides_this_process_the_only_one_that_is_listed_is_a_neighbour():
    assert told_apart(SimulatedNvml({4711: 900 * MIB})).present() == {4711}


def test_where_nobody_can_tell_which_is_ours_all_count_and_that_is_said_once(caplog):
    mute = SimulatedNvml({HOSTS_ME: None, HOSTS_ME + 1: None}, me=HOSTS_ME)
    found = told_apart(mute)
    assert found.present() == found.present() == {HOSTS_ME, HOSTS_ME + 1}
    (said,) = caplog.records
    assert said.getMessage() == (
        "NVML lists 2000000001, 2000000002 on the GPU, and which of them is this process cannot be told: "
        "all count as neighbours."
    )


def test_two_that_grow_alike_are_not_told_apart():
    class Twins(SimulatedNvml):
        def nvmlDeviceGetComputeRunningProcesses(self, handle):
            self.held[HOSTS_ME + 1] = self.held.get(HOSTS_ME)
            return super().nvmlDeviceGetComputeRunningProcesses(handle)

    assert told_apart(Twins({HOSTS_ME: MIB}, me=HOSTS_ME)).present() == {HOSTS_ME, HOSTS_ME + 1}


def test_a_gpu_without_room_for_the_look_is_watched_all_the_same():
    driver = SimulatedNvml({HOSTS_ME: MIB}, me=HOSTS_ME)

    def full():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    found = Neighbours(Nvml(driver, "handle"), full)
    found.identify()
    assert found.present() == {HOSTS_ME}


def test_the_first_memory_on_a_gpu_makes_this_process_known_by_its_own_id():
    driver = SimulatedNvml({9: MIB}, me=ME)
    assert told_apart(driver).present() == {9}
    assert driver.held.keys() == {9, ME}


def test_who_computed_between_two_looks_and_went_is_a_neighbour():
    driver = SimulatedNvml({ME: MIB})
    driver.computed = [(4710, 5_000, 90)]  # before this measurement
    with watching(driver) as watch:
        driver.computed += [
            (ME, 8_000, 80),
            (4711, 9_000, 20),
            (4712, 9_000, 0),
            (4713, 9_000, 4_000_000),
            (0, 9_000, 9),
        ]
        watch.look()
        assert watch.environment().neighbours == (4711,)
    with watch:
        assert watch.environment().neighbours == ()


def test_a_single_name_among_those_that_computed_may_be_our_own():
    assert who_computed(SimulatedNvml({ME: MIB}), [HOSTS_ME], [HOSTS_ME]) == [(), ()]


def test_a_lone_stranger_is_told_once_we_were_seen_by_our_own_name():
    assert who_computed(SimulatedNvml({ME: MIB}), [4711], [ME], [ME]) == [(), (4711,), (4711,)]
    assert who_computed(SimulatedNvml({ME: MIB}), [ME], [4711]) == [(), (4711,)]


def test_two_names_cannot_both_be_our_own_also_if_they_come_one_after_the_other():
    both = (4711, HOSTS_ME)
    assert who_computed(SimulatedNvml({ME: MIB}), both) == [both]
    assert who_computed(SimulatedNvml({ME: MIB}), [HOSTS_ME], [4711], [HOSTS_ME]) == [(), both, both]


def test_who_computed_alone_before_a_measurement_is_not_in_it():
    driver = SimulatedNvml({ME: MIB})
    driver.computed = [(4710, 500, 90)]
    assert who_computed(driver, [ME]) == [()]


@pytest.mark.parametrize(
    ("held", "me", "contained"),
    [({ME: MIB}, ME, False), ({}, ME, False), ({HOSTS_ME: MIB}, HOSTS_ME, True), ({HOSTS_ME: MIB}, HOSTS_ME, False)],
    ids=["listed outside of containers", "by its first memory", "by the host's id", "by an id that /proc hides"],
)
def test_a_lone_stranger_is_told_at_once_where_this_process_has_but_one_name(held, me, contained):
    assert who_computed(SimulatedNvml(held, me=me), [4711], contained=contained) == [(4711,)]


@pytest.mark.parametrize("contained", [False, True])
def test_where_nobody_knows_what_we_are_called_a_lone_name_may_be_our_own(contained):
    assert who_computed(SimulatedNvml({}), [HOSTS_ME], contained=contained) == [()]


def test_a_container_is_told_by_its_namespace_of_process_ids(monkeypatch, tmp_path):
    assert is_contained() == (str(Path("/proc/self/ns/pid").readlink()) != "pid:[4026531836]")
    monkeypatch.setattr("trtgate.measure.neighbours._NAMESPACE", tmp_path / "none")
    assert is_contained()


def test_a_neighbour_that_comes_and_goes_between_blocks_is_in_the_row():
    driver = SimulatedNvml({ME: MIB})
    taken = []

    def sample():
        taken.append(1e-3)
        moment_us = 1_000 * len(taken)
        driver.computed.append((ME, moment_us, 80))
        if len(taken) == 25:  # in the middle of the third block
            driver.computed.append((4711, moment_us, 30))
        return 1e-3

    settings = MeasureSettings(block_rounds=10, min_rounds=50, max_rounds=50)
    with watching(driver) as watch:
        take_turns(
            {"engine": sample},
            settings,
            watch,
            lambda _: Certainty.SETTLED,
            random.Random(0),
            lambda: 0.0,
            lambda _: None,
        )
        assert watch.environment().neighbours == (4711,)


def test_who_was_there_only_during_warm_up_is_seen_on_entry():
    driver = SimulatedNvml({ME: MIB, 4711: MIB})
    with watching(driver) as watch:
        del driver.held[4711]
        watch.look()
        assert watch.environment().neighbours == (4711,)


def test_the_family_is_no_neighbour():
    driver = SimulatedNvml({ME: MIB, 4711: MIB, 4712: MIB})
    watch = watching(driver)
    watch.look()
    del driver.held[4712]
    assert watch.environment(family=(4711,)).neighbours == (4712,)
    assert watch.environment().neighbours == (4711, 4712)


def test_a_driver_that_lists_nobody_is_not_taken_for_an_empty_gpu():
    driver = SimulatedNvml({ME: MIB})
    assert watching(driver).sees_neighbours
    driver.lists = False
    assert not watching(driver).sees_neighbours
    assert watching(driver).environment().neighbours == ()
    assert not Monitor(torch.device("cpu")).sees_neighbours


@pytest.mark.parametrize(
    ("held", "me", "bytes_", "why"),
    [
        ({ME: 600 * MIB, 7: MIB}, ME, 600 * MIB, ""),
        ({HOSTS_ME: 600 * MIB}, HOSTS_ME, 600 * MIB, ""),
        ({7: 600 * MIB}, None, None, "does not list this process"),
        ({ME: None}, ME, None, "does not tell what a process holds"),
        ({ME: 0}, ME, None, "does not tell what a process holds"),
        ({ME: 90 * MIB}, ME, None, "NVML counts 94,371,840 bytes for this process, and PyTorch alone 104,857,600."),
    ],
    # The ids of processes differ from worker to worker, and names of tests must not.
    ids=["own id", "the host's id", "not listed", "not told", "nothing held", "less than PyTorch"],
)
def test_own_memory_is_what_nvml_counts_for_this_process_or_a_reason(held, me, bytes_, why):
    found = told_apart(SimulatedNvml(held, me=me)).own_memory(reserved_bytes=100 * MIB)
    assert found.held_bytes == bytes_
    assert why in found.reason
    assert bool(found.reason) == (bytes_ is None)


def test_who_is_alone_on_the_gpu_is_this_process_also_where_no_figures_tell():
    alone = told_apart(SimulatedNvml({HOSTS_ME: None}, me=HOSTS_ME))
    assert alone.present() == frozenset()
    assert alone.ids >= {HOSTS_ME}


def test_own_memory_without_a_list_of_processes_says_so():
    driver = SimulatedNvml({ME: MIB})
    driver.lists = False
    assert told_apart(driver).own_memory(0).reason == "NVML lists no processes here."
    assert Monitor(torch.device("cpu")).own_memory(0).reason == "There is no NVML here."
