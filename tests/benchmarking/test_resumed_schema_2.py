"""A sweep that schema 2 wrote goes on: what it measured is not measured again."""

from __future__ import annotations

import json

import pytest

from benchmarking.sweeping.runner import SweepContext, run_sweep
from results.records.quantities import SCHEMA_VERSION
from results.records.store import Store

from ..schema_2 import write_in_schema_2


@pytest.fixture
def run(tmp_path, make_case, make_plan, environment, scripted_launcher, fake_device):
    """Run a sweep of three cases with a script; the launcher, and the id of the sweep."""

    def start(script=None, **changes):
        launcher = scripted_launcher(script)
        store = Store(tmp_path / "runs")
        setting = SweepContext(
            environment, store, launcher, fake_device.Watcher(), "sam-bench sweep"
        )
        cases = [make_case(batch_size=size) for size in (1, 2, 4)]
        return launcher, run_sweep(cases, make_plan(**changes), setting)

    return start


def test_only_what_is_left_of_an_old_sweep_is_measured(run, tmp_path):
    _, sweep_id = run({2: "crashed"})
    write_in_schema_2(tmp_path / "runs")
    launcher, again = run()
    records = Store(tmp_path / "runs").read().records

    assert again == sweep_id
    assert launcher.batch_sizes == [2]
    assert [record.status for record in records] == ["ok", "ok", "ok"]


def test_the_plan_of_an_old_sweep_that_goes_on_is_of_the_present_version(run, tmp_path):
    _, sweep_id = run({2: "crashed"})
    write_in_schema_2(tmp_path / "runs")
    run()
    plan = json.loads((tmp_path / "runs" / sweep_id / "sweep.json").read_text())

    assert plan["schema_version"] == SCHEMA_VERSION


def test_another_plan_is_another_sweep(run, tmp_path):
    _, sweep_id = run()
    write_in_schema_2(tmp_path / "runs")
    launcher, again = run(passes=("latency",))

    assert again != sweep_id
    assert launcher.batch_sizes == [1, 2, 4]
