"""Sweeps among faults: workers that fail in every way, a store that goes away, jumping clocks."""

from __future__ import annotations

import itertools
import shutil
import time

import pytest

from benchmarking.sweeping.runner import SweepContext, SweepOptions, run_sweep
from results.records.repair import look_over, repair
from results.records.store import Store, StoreError

# A worker's end by batch size, and what it makes of the case.
ENDS = {
    1: ("outcome(**NOTHING)", "ok"),
    2: ("os.kill(os.getpid(), 9)", "crashed"),
    3: ("os.kill(os.getpid(), 11)", "crashed"),
    4: ("time.sleep(600)", "timeout"),
    5: ("os.write(1, b'x' * 10_000 + bytes([10]))", "crashed"),
    6: ("outcome('cuda_error')", "cuda_error"),
    7: ("sys.exit(1)", "crashed"),
    8: ("grandchild(start_new_session=True); sys.exit(1)", "crashed"),
    9: ("while True: stage('latency')", "timeout"),
    10: ("while True: os.write(2, b'x' * 10_000)", "timeout"),
    11: ("outcome('oom')", "oom"),
    12: ("outcome(**NOTHING)", "ok"),
}
NOTHING = "NOTHING = {'measurement': {'weights': 'random', 'input_source': 'noise'}}\n"
FAULTY = (
    NOTHING
    + "stage('ready')\nfor case in cases():\n"
    + "".join(
        f"    if case['batch_size'] == {size}:\n        {end}\n" for size, (end, _) in ENDS.items()
    )
)


class Silent:
    """A watcher that shows nothing."""

    def __getattr__(self, name):
        return lambda *arguments: None


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def cases(make_case):
    return [make_case(batch_size=size) for size in ENDS]


@pytest.fixture
def run(store, cases, make_plan, environment):
    """Run a sweep of all batch sizes; give its id."""

    def start(launcher, **changes):
        setting = SweepContext(environment, store, launcher, Silent(), "sam-bench sweep")
        arguments = {"plan": make_plan(case_timeout_s=0.5), "options": SweepOptions(prunes=False)}
        return run_sweep(setting=setting, **{"cases": cases} | arguments | changes)

    return start


@pytest.fixture
def statuses(store):
    return lambda: {record.case.batch_size: record.status for record in store.read().records}


@pytest.fixture
def measured(scripted_launcher):
    """A launcher whose cases are all ok, and which calls a function before each."""
    return lambda before=lambda case: None: scripted_launcher(before=before)


def is_fine(store):
    return all(look.is_fine for look in look_over(store))


# Workers


def test_no_worker_stops_a_sweep(run, launch, store, statuses):
    run(launch(FAULTY))

    assert statuses() == {size: status for size, (_, status) in ENDS.items()}
    assert is_fine(store)


def test_what_failing_workers_left_is_measured_by_better_ones(run, launch, measured, statuses):
    run(launch(FAULTY))
    launcher = measured()
    run(launcher)

    assert set(launcher.batch_sizes) == set(ENDS) - {1, 11, 12}
    assert set(statuses().values()) == {"ok", "oom"}


# The store


def test_a_store_that_is_removed_meanwhile_is_made_again_with_its_plan(
    run, store, measured, statuses, cases
):
    def remove(case):
        if case.batch_size == 6:
            shutil.rmtree(store.path)

    sweep_id = run(measured(remove))
    (look,) = look_over(store)
    again = measured()

    assert list(statuses()) == [6, 7, 8, 9, 10, 11, 12]
    assert look.planned == tuple(cases)
    assert [case.batch_size for case in look.missing] == [1, 2, 3, 4, 5]
    assert run(again) == sweep_id
    assert again.batch_sizes == [1, 2, 3, 4, 5]
    assert is_fine(store)


def test_a_file_in_the_stores_place_ends_the_sweep_in_one_line(run, store, measured):
    def replace(case):
        if case.batch_size == 6:
            shutil.rmtree(store.path)
            store.path.write_text("no folder")

    with pytest.raises(StoreError, match=r"^'[^\n]*' can't be written: [^\n]*--store[^\n]*$"):
        run(measured(replace))


def test_a_sweep_with_a_rebuilt_plan_goes_on(run, store, measured, cases):
    sweep_id = run(measured())
    store.case_path(sweep_id, cases[3].case_id).unlink()
    (store.path / sweep_id / "sweep.json").write_text("{")
    list(repair(store))
    again = measured()

    assert run(again) == sweep_id
    assert again.batch_sizes == [4]
    assert store.read().sweeps[0].cases == tuple(cases)
    assert is_fine(store)


# Clocks


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_makes_no_record_wrong(run, measured, store, monkeypatch, jump_s):
    jumps = itertools.count(time.time(), jump_s)
    monkeypatch.setattr(time, "time", lambda: next(jumps))

    def stop(case):
        if case.batch_size == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(measured(stop))

    assert all(0 <= record.wall_s < 60 for record in store.read().records)
