"""What an A/B gate compares, and what one launch of it tells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.records.case import AXES
from results.records.environment import Telemetry
from results.records.measurement import Modules, ModuleTiming
from results.records.schema import STATUSES
from results.records.store import StoreError
from results.verdicts.gate_runs import (
    CasePair,
    GateRun,
    axes_apart,
    cycles,
    gate_run_of,
    gate_runs_of,
    log_ratio,
    log_ratios,
    match_cases,
)

from .gate_launches import FAILED, ok, pairs_of

OTHER = {
    "model": "vit_l", "image_size": 512, "precision": "fp32", "attention": "sdpa",
    "execution": "compiled", "device": "cuda:1", "gpu": "H100", "input": "noise",
    "weights": "checkpoints",
}  # fmt: skip


@pytest.fixture
def make_cases(make_case):
    """Maker of cases of these batch sizes."""

    def make(*sizes, **changes):
        return [make_case(batch_size=size, **changes) for size in sizes]

    return make


@pytest.fixture
def cell(make_case):
    return CasePair("a cell", make_case(), make_case())


# What is compared


def test_of_two_revisions_equal_cases_are_compared(make_cases):
    cells = match_cases(make_cases(1, 2, 4), make_cases(4, 2, 8))

    assert [cell.base.batch_size for cell in cells] == [2, 4]
    assert all(cell.base == cell.head for cell in cells)


@pytest.mark.parametrize("axis", OTHER)
def test_of_two_configurations_cases_are_equal_but_for_what_sets_them_apart(make_cases, axis):
    cells = match_cases(make_cases(1, 2), make_cases(1, 2, **{axis: OTHER[axis]}))

    assert [(cell.base.batch_size, cell.head.batch_size) for cell in cells] == [(1, 1), (2, 2)]
    assert {getattr(cell.head, axis) for cell in cells} == {OTHER[axis]}
    assert {getattr(cell.base, axis) for cell in cells}.isdisjoint({OTHER[axis]})


def test_every_axis_but_the_batch_size_can_set_sides_apart(make_cases):
    assert axes_apart(make_cases(1), make_cases(1, **OTHER)) == tuple(
        axis for axis in AXES if axis != "batch_size"
    )


def test_sides_may_be_several_axes_apart(make_cases):
    apart = {"attention": "sdpa", "precision": "fp32"}
    cells = match_cases(make_cases(1, 2), make_cases(2, 1, **apart))

    assert [cell.base.batch_size for cell in cells] == [1, 2]
    assert axes_apart(make_cases(1), make_cases(1, **apart)) == ("precision", "attention")


def test_an_axis_of_several_values_on_one_side_sets_nothing_apart(make_cases):
    base = make_cases(1)
    head = [*make_cases(1), *make_cases(1, attention="sdpa")]

    assert axes_apart(base, head) == ()
    assert [cell.head for cell in match_cases(base, head)] == base


@pytest.mark.parametrize(("base", "head"), [((1, 2), (4, 8)), ((1,), (2,)), ((), (1,)), ((1,), ())])
def test_sides_that_share_nothing_have_no_cell(make_cases, base, head):
    assert match_cases(make_cases(*base), make_cases(*head)) == []


def test_cells_are_in_the_order_of_the_base(make_cases):
    cells = match_cases(make_cases(8, 1, 4), make_cases(1, 4, 8))

    assert [cell.base.batch_size for cell in cells] == [8, 1, 4]


def test_a_label_tells_each_axis_that_varies_once(make_cases):
    cases = [*make_cases(1), *make_cases(1, image_size=512, precision="fp32")]

    assert [cell.label for cell in match_cases(cases, cases)] == [
        "vit_b b1 1024px bf16", "vit_b b1 512px fp32",
    ]  # fmt: skip


@pytest.mark.parametrize("axis", OTHER)
def test_cells_that_differ_in_an_axis_have_labels_that_differ(make_cases, axis):
    cases = [*make_cases(1, 2), *make_cases(1, 2, **{axis: OTHER[axis]})]

    assert len({cell.label for cell in match_cases(cases, cases)}) == 4


# Launches


def test_a_launch_is_the_median_of_its_forwards(make_record, make_measurement, make_latency):
    latency = make_latency(forward_s=(0.4, 0.1, 0.2, 0.3, 9.0))
    launch = gate_run_of(make_record(measurement=make_measurement(latency=latency)))

    assert (launch.status, launch.median_s) == ("ok", 0.3)


def test_a_launch_has_each_module_s_own_time(make_record):
    assert dict(gate_run_of(make_record()).modules_s) == {
        "image_encoder": 0.125, "blocks.0": 0.625, "neck": 0.25,
    }  # fmt: skip


def test_a_launch_has_the_clock_of_its_work(make_record):
    telemetry = Telemetry(sm_clock_hz=(9, 1000, 3000, 9), event_reasons=((),) * 4, at_s=(0,) * 4)

    assert gate_run_of(make_record(telemetry=telemetry)).clock_hz == 2000
    assert gate_run_of(make_record()).clock_hz is None


def test_a_launch_has_the_digest_of_its_output(make_record, make_measurement):
    without = make_record(measurement=make_measurement(output=None))

    assert gate_run_of(make_record()).output_sha256 == "ab" * 32
    assert gate_run_of(without).output_sha256 is None


@pytest.mark.parametrize("status", [each for each in STATUSES if each not in ("ok", "not_run")])
def test_a_launch_that_is_not_good_has_no_time_and_says_why(make_record, status):
    launch = gate_run_of(make_record(status=status, message="why"))

    assert launch == GateRun(status=status, message="why")


def test_a_launch_without_a_latency_has_no_time(make_record, make_measurement):
    assert gate_run_of(make_record(measurement=make_measurement(latency=None))).median_s is None


def test_a_launch_that_took_no_time_has_none(make_record, make_measurement, make_latency):
    latency = make_latency(forward_s=(0.0, 0.0, 0.5))

    assert gate_run_of(make_record(measurement=make_measurement(latency=latency))).median_s is None


def test_a_module_without_samples_is_none_of_the_launch(make_record, make_measurement):
    modules = {"neck": ModuleTiming(total_s=(), self_s=(), kind="neck", parent="image_encoder")}
    launch = gate_run_of(
        make_record(measurement=make_measurement(modules=Modules(timings=modules)))
    )

    assert launch.modules_s == ()


def test_launches_are_found_by_their_case(store, make_record, make_failure):
    good, bad = make_record(), make_failure(batch_size=8)
    store.write_record(good)
    store.write_record(bad)

    assert gate_runs_of(store, good.sweep_id) == {
        good.case_id: gate_run_of(good), bad.case_id: gate_run_of(bad),
    }  # fmt: skip


def test_a_launch_that_left_no_sweep_has_none(store):
    assert gate_runs_of(store, None) == {}


def test_a_sweep_that_is_gone_is_an_error(store):
    with pytest.raises(StoreError, match="There is no sweep 'gone'"):
        gate_runs_of(store, "gone")


# Ratios

BAD_TIMES = [None, 0.0, -0.1, math.nan]


def test_a_log_ratio_is_of_the_head_over_the_base():
    assert log_ratio(0.1, 0.2) == pytest.approx(math.log(2))
    assert log_ratio(0.2, 0.1) == pytest.approx(-math.log(2))


@pytest.mark.parametrize("bad", BAD_TIMES)
def test_a_time_that_is_none_has_no_ratio(bad):
    assert math.isnan(log_ratio(bad, 0.1))
    assert math.isnan(log_ratio(0.1, bad))


@pytest.mark.parametrize("times", [(1e-300, 1e300), (1e300, 1e-300), (math.inf, 1.0)])
def test_a_ratio_that_no_float_can_hold_is_none(times):
    assert math.isnan(log_ratio(*times))


def test_ratios_have_a_row_a_cell_and_a_column_a_pair(make_cases):
    cells = match_cases(make_cases(1, 2), make_cases(1, 2))
    ids = [cell.base.case_id for cell in cells]
    pairs = [
        ({ids[0]: ok(0.1), ids[1]: ok(0.4)}, {ids[0]: ok(0.2), ids[1]: ok(0.4)}),
        ({ids[0]: ok(0.1), ids[1]: ok(0.1)}, {ids[0]: FAILED, ids[1]: ok(0.4)}),
        ({ids[1]: ok(0.1)}, {ids[1]: ok(0.1)}),
    ]

    assert log_ratios(cells, pairs) == pytest.approx(
        np.log([[2, np.nan, np.nan], [1, 4, 1]]), nan_ok=True
    )


def test_ratios_of_nothing_keep_their_shape(cell):
    assert log_ratios([], []).shape == (0, 0)
    assert log_ratios([cell, cell], []).shape == (2, 0)
    assert log_ratios([], [({}, {})] * 3).shape == (0, 3)


def test_cycles_are_the_time_at_its_clock(cell):
    pairs = pairs_of(
        cell,
        (ok(0.1, clock_hz=2e9), ok(0.2, clock_hz=1e9)),  # as many, at half the clock
        (ok(0.1, clock_hz=1e9), ok(0.2, clock_hz=1e9)),
    )

    assert log_ratios([cell], pairs, cycles) == pytest.approx(np.log([[1, 2]]))


@pytest.mark.parametrize(
    "launches",
    [(ok(0.1), ok(0.1, clock_hz=1e9)), (ok(0.1, clock_hz=1e9), ok(0.1)), (FAILED, ok(1.0)),
     (ok(0.1, clock_hz=1e9), None)],
)  # fmt: skip
def test_cycles_are_known_of_launches_with_a_time_and_a_clock_alone(cell, launches):
    assert np.isnan(log_ratios([cell], pairs_of(cell, launches), cycles)).all()
