"""A baseline moves only by acceptance; until there is one, the first run that passed is held to."""

import json

import pytest

from trtgate.errors import RecordError
from trtgate.store.history import RunStatus, accept, find_baseline, load_run, save_run


@pytest.fixture
def folder(tmp_path, h100):
    return tmp_path / "results" / h100.folder


def _damaged(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def test_the_baseline_is_the_first_that_passed_until_one_is_accepted(folder, make_record, cpu_only):
    assert find_baseline(folder, cpu_only) is None
    here = make_record().identity
    save_run(folder, [make_record(identity=cpu_only)], status=RunStatus.PASSED)
    first = save_run(folder, [make_record()], status=RunStatus.PASSED)
    slower = save_run(folder, [make_record(median_s=1.0)], status=RunStatus.PASSED)
    failed = save_run(folder, [make_record()], status=RunStatus.FAILED, reason="1 test failed.")
    assert failed.parent.name == "rejected"
    assert find_baseline(folder, here) == first  # a run that passed is not what the next one is held to
    back = accept(failed, "The new driver is slower on purpose.")
    assert back.parent == folder
    assert not failed.exists()
    assert back.name.startswith("0004_")
    run = load_run(back)
    assert (run.status, run.reason) == ("accepted", "The new driver is slower on purpose.")
    assert json.loads(back.read_text())["trtgate"]["accepted_at"].startswith("20")
    save_run(folder, [make_record()], status=RunStatus.PASSED)
    assert find_baseline(folder, here) == back
    assert find_baseline(folder, here, before=back) == first
    _damaged(back, lambda data: data["trtgate"].update(accepted_at="2020-01-01T00:00:00+00:00"))
    accept(slower, "Better than the driver that was accepted before.")
    assert find_baseline(folder, here) == slower  # the last acceptance counts, whatever the run's number


def test_a_failed_run_in_place_is_never_the_baseline(folder, make_record):
    path = save_run(folder, [make_record()], status=RunStatus.PASSED)
    _damaged(path, lambda data: data["trtgate"].update(status="failed"))
    assert find_baseline(folder, make_record().identity) is None


def test_a_damaged_run_stops_the_search_for_a_baseline(folder, make_record):
    save_run(folder, [make_record()], status=RunStatus.PASSED)
    (folder / "0002_broken.json").write_text('{"benchmarks": [')
    with pytest.raises(RecordError, match=r"0002_broken\.json is damaged or cut off at line 1"):
        find_baseline(folder, make_record().identity)


def test_an_accepted_part_does_not_hide_the_last_whole_one_and_a_passed_whole_no_part(tmp_path, make_record):
    one, two = make_record(), make_record(case="resnet50-eager-fp16-b8-stream")
    both = {one.case, two.case}
    first = save_run(tmp_path, [one], status=RunStatus.PASSED)
    whole = save_run(tmp_path, [one, two], status=RunStatus.PASSED)
    assert find_baseline(tmp_path, one.identity, cases=both) == first  # nobody accepted another figure of its case
    assert find_baseline(tmp_path, one.identity, cases={two.case}) == whole
    accept(whole, "The second case is new.")
    part = accept(save_run(tmp_path, [one], status=RunStatus.PASSED), "Slower for a reason.")
    _damaged(part, lambda data: data["trtgate"].update(accepted_at="2999-01-01T00:00:00+00:00"))
    assert find_baseline(tmp_path, one.identity, cases=both) == whole
    assert find_baseline(tmp_path, one.identity, cases={one.case}) == part
    assert find_baseline(tmp_path, one.identity, cases={"vit_b_16-eager-fp16-b8-graph"}) is None


def test_a_run_with_damaged_samples_is_not_accepted(folder, make_record):
    path = save_run(folder, [make_record(baselines={"eager": 1e-3})], status=RunStatus.FAILED)

    def damage(data):
        data["benchmarks"][0]["extra_info"]["trtgate"]["baselines"]["eager"]["series"]["packed"] = "AAAA"

    before = _damaged(path, damage).read_bytes()
    with pytest.raises(RecordError, match=r"0001_.*, row 1, 'resnet18.*', device: A packed series is damaged"):
        accept(path, "Looks good.")
    assert path.read_bytes() == before
