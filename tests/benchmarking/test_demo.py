"""The demonstration store: made up, says so, and is whole in all that a real one has."""

from __future__ import annotations

import pytest

from benchmarking.demo import demo
from benchmarking.demo.demo import GPUS, MODELS_SHOWN, PRECISIONS_SHOWN, SLOWER_BY, SLOWER_FROM
from results.answers.batching import batching_frame, image_s
from results.records.repair import look_over
from results.records.store import Store, to_json
from results.tables.frames import case_frame, limits_frame

BATCHING_AXES = ["sweep_id", "model", "precision", "attention"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The whole demonstration."""
    store = Store(tmp_path_factory.mktemp("demo"))
    store.count = demo.write_demo(store, seed=0)
    return store


@pytest.fixture(scope="module")
def contents(store):
    return store.read()


@pytest.fixture(scope="module")
def records(contents):
    return contents.records


@pytest.fixture(scope="module")
def cases(records):
    return case_frame(records)


@pytest.fixture(scope="module")
def limits(records):
    return limits_frame(records)


@pytest.fixture(scope="module")
def steps(records):
    return batching_frame(records)


@pytest.fixture
def written(short_demo, tmp_path):
    """The records that a seed writes, as their files hold them."""

    def write(seed, folder):
        store = Store(tmp_path / folder)
        demo.write_demo(store, seed)
        return [to_json(record) for record in store.read().records]

    return write


def test_every_record_says_that_it_is_synthetic(records):
    assert {record.is_synthetic for record in records} == {True}


def test_every_record_can_be_read(contents, store):
    assert contents.problems == []
    assert len(contents.records) == store.count


def test_the_store_is_fine(store):
    looks = look_over(store)

    assert len(looks) == len(GPUS) + demo.COMMITS
    assert all(look.is_fine for look in looks)


def test_what_is_planned_is_recorded(store):
    for look in look_over(store):
        assert {case.case_id for case in look.planned} == {
            record.case_id for record in look.records.values()
        }


def test_a_sweeps_end_counts_its_records(store):
    for sweep_id in store.sweep_ids():
        end = store.read_end(sweep_id)
        assert sum(end.statuses.values()) == end.planned == len(store.read(sweep_id).records)


def test_there_are_good_cases_and_all_kinds_of_failures(cases):
    assert set(cases["status"]) == {"ok", "oom", "skipped", "crashed"}


def test_every_gpu_has_good_cases_of_every_model_and_precision(cases):
    good = cases[cases["status"] == "ok"]

    assert set(good[["gpu", "model", "precision"]].itertuples(index=False, name=None)) == {
        (gpu.name, model, precision)
        for gpu in GPUS
        for model in MODELS_SHOWN
        for precision in PRECISIONS_SHOWN
    }


def test_a_case_crashes_on_every_gpu(cases):
    assert set(cases[cases["status"] == "crashed"]["gpu"]) == {gpu.name for gpu in GPUS}


def test_a_case_that_does_not_fit_is_out_of_memory_and_larger_ones_are_skipped(cases):
    for _, family in cases.groupby(BATCHING_AXES):
        statuses = list(family.sort_values("batch_size")["status"])
        if "oom" not in statuses:
            assert "skipped" not in statuses
            continue
        first = statuses.index("oom")
        assert set(statuses[first + 1 :]) <= {"skipped"}
        assert not {"skipped", "oom"} & set(statuses[:first])


def test_a_good_case_fits_its_gpu(cases):
    memory = cases["gpu"].map({gpu.name: gpu.memory_bytes for gpu in GPUS})
    good = cases["status"] == "ok"

    assert (cases["peak_bytes"][good] <= memory[good]).all()


def test_every_good_case_passes_the_check_of_physics(records):
    verdicts = {each.checks["physics"].verdict for each in records if each.status == "ok"}

    assert verdicts == {"pass"}


def test_no_case_and_no_module_is_faster_than_its_floor(limits):
    known = limits[limits["floor_s"].notna()]

    assert known["module"].nunique() > 30
    assert (known["total_s"] >= known["floor_s"]).all()


def test_no_self_check_says_invalid(cases):
    assert cases["invalid_checks"].sum() == 0


def test_the_causes_of_a_step_add_up_to_its_change(records, steps):
    measured_s = {
        (each.sweep_id, each.case.model, each.case.precision, each.case.attention,
         each.case.batch_size): image_s(each)
        for each in records
        if each.status == "ok"
    }  # fmt: skip
    changes = steps.groupby([*BATCHING_AXES, "from_batch", "to_batch"])["change_s"].sum()

    assert len(changes) > 100
    for (*family, smaller, larger), change_s in changes.items():
        before_s, after_s = measured_s[*family, smaller], measured_s[*family, larger]
        assert change_s == pytest.approx(after_s - before_s, abs=1e-9)


def test_no_cause_is_unknown_but_of_what_is_in_no_module(steps):
    assert set(steps[steps["cause"] == "unknown"]["part"]) <= {"unattributed"}


def test_one_model_is_slower_from_a_commit_on(cases):
    series = history(cases, "vit_l")
    before, after = series[:SLOWER_FROM], series[SLOWER_FROM:]

    assert after.median() / before.median() == pytest.approx(SLOWER_BY, abs=0.01)
    assert after.min() > before.max()


def test_the_other_model_is_as_fast_at_every_commit(cases):
    series = history(cases, "vit_b")

    assert series.max() / series.min() < 1.01


def history(cases, model):
    """Times of an image at the commits of the series, the first ones first."""
    mine = cases[
        (cases["model"] == model) & ~cases["sweep_id"].isin(cases["sweep_id"].unique()[:3])
    ]
    assert len(mine) == demo.COMMITS
    return mine.sort_values("started_at")["image_s"].reset_index(drop=True)


def test_the_commits_of_the_series_differ(cases):
    assert cases["git_commit"].nunique() == demo.COMMITS + 1


def test_the_same_seed_writes_the_same_records(written):
    assert written(7, "one") == written(7, "two")


def test_another_seed_writes_others(written):
    assert written(7, "one") != written(8, "two")
