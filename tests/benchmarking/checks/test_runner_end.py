"""The end of a sweep: the drift probe, the count of its cases, and what it cost."""

from __future__ import annotations

import pytest

from benchmarking.errors import SweepError
from benchmarking.views.printing import end_lines
from results.records.schema import FAILED


@pytest.fixture
def probe_at(fake_device):
    """Maker of measurements whose last, the drift probe's, is slower by a factor."""

    def make(factor, cases=3):
        def measure(case, call):
            seconds = 0.01 * (factor if call == cases else 1)
            return fake_device.measurement_of(case, times_s=lambda index: seconds)

        return measure

    return make


# The drift probe


@pytest.mark.parametrize(
    ("factor", "device", "verdict", "status"),
    [
        (1.0, "cuda:0", "pass", "ok"),
        (1.03, "cuda:0", "warn", "ok"),
        (1.1, "cuda:0", "invalid", "invalid"),
        (1.1, "cpu", "warn", "ok"),
    ],
)
def test_the_first_case_measured_again_last_tells_drift(
    run_on_gpu, records, probe_at, factor, device, verdict, status
):
    launcher = run_on_gpu(probe_at(factor), device=device)

    assert launcher.batch_sizes == [1, 2, 4, 1]
    assert launcher.end.checks["drift"].verdict == verdict
    assert records()[1].checks["drift"] == launcher.end.checks["drift"]
    assert records()[1].status == status


def test_drift_makes_no_other_case_invalid(run_on_gpu, records, probe_at):
    run_on_gpu(probe_at(1.1))

    assert [records()[size].status for size in (2, 4)] == ["ok", "ok"]


def test_drift_keeps_what_the_first_case_measured(
    run_on_gpu, records, probe_at, fake_device, make_case
):
    run_on_gpu(probe_at(1.1))
    record = records()[1]

    assert record.measurement.latency.forward_s[0] == pytest.approx(0.01)
    assert {"steady", "drift"} <= set(record.checks)


def test_the_probe_runs_the_latency_pass_alone(run_on_gpu):
    assert run_on_gpu().passes[-1] == ("latency",)


def test_the_probe_is_in_the_end_with_its_samples(run_on_gpu, probe_at, make_case):
    end = run_on_gpu(probe_at(1.1)).end

    assert end.drift_case_id == make_case(batch_size=1, device="cuda:0").case_id
    assert end.drift_forward_s[0] == pytest.approx(0.011)


@pytest.mark.parametrize(("sizes", "options"), [((1, 2, 4), {"probes_drift": False}), ((1, 2), {})])
def test_a_sweep_without_a_probe_says_nothing_of_drift(run_on_gpu, sizes, options):
    launcher = run_on_gpu(sizes=sizes, **options)

    assert launcher.batch_sizes == list(sizes)
    assert "drift" not in launcher.end.checks
    assert launcher.end.drift_forward_s is None


def test_the_probe_takes_the_first_case_that_is_ok(run_on_gpu, fake_device):
    launcher = run_on_gpu(
        lambda case, call: "crashed" if case.batch_size == 1 else fake_device.measurement_of(case)
    )

    assert launcher.batch_sizes == [1, 2, 4, 2]


@pytest.mark.parametrize("left_out", ["latency", None])
def test_a_sweep_in_which_no_latency_was_measured_is_not_probed(run_on_gpu, fake_device, left_out):
    def measure(case, call):
        if left_out is None:
            return "crashed"
        return fake_device.measurement_of(case, left_out=(left_out,))

    launcher = run_on_gpu(measure)

    assert launcher.batch_sizes == [1, 2, 4]
    assert launcher.end.checks["accounting"].verdict == "pass"


@pytest.mark.parametrize("status", [*FAILED, "oom"])
def test_a_probe_that_fails_loses_nothing(run_on_gpu, records, fake_device, status):
    launcher = run_on_gpu(
        lambda case, call: status if call == 3 else fake_device.measurement_of(case)
    )

    assert {record.status for record in records().values()} == {"ok"}
    assert "drift" not in launcher.end.checks


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SweepError("no.")])
def test_a_probe_that_is_stopped_loses_nothing(run_on_gpu, records, store, fake_device, error):
    with pytest.raises(type(error)):
        run_on_gpu(lambda case, call: error if call == 3 else fake_device.measurement_of(case))

    assert {record.status for record in records().values()} == {"ok"}
    assert store.read_end(store.sweep_ids()[0]) is None


# The end


def test_the_end_counts_all_records_by_status(run_on_gpu, fake_device):
    def measure(case, call):
        return "oom" if case.batch_size == 2 else fake_device.measurement_of(case)

    end = run_on_gpu(measure).end

    assert (end.planned, end.statuses) == (3, {"ok": 1, "oom": 1, "skipped": 1})
    assert end.checks["accounting"].verdict == "pass"


def test_a_case_that_drift_made_invalid_is_counted_so(run_on_gpu, probe_at):
    assert run_on_gpu(probe_at(1.1)).end.statuses == {"invalid": 1, "ok": 2}


def test_the_end_tells_how_much_of_its_time_was_measuring(run_on_gpu):
    end = run_on_gpu(sizes=(1,)).end
    # 20 forwards, 3 before them, and 20 with hooks and 20 without, of 10 ms.
    seconds = 0.01 * (20 + 3 + 20 * 1.01 + 20)

    assert end.measured_s == pytest.approx(seconds, rel=0.01)
    assert end.wall_s > 0


def test_the_ratio_of_the_end_can_be_printed(run_on_gpu):
    assert "times its timed and warm-up work" in end_lines(run_on_gpu(sizes=(1,)).end)[0]


def test_a_sweep_that_is_stopped_has_no_end(run_on_gpu, store, fake_device):
    with pytest.raises(KeyboardInterrupt):
        run_on_gpu(
            lambda case, call: KeyboardInterrupt() if call else fake_device.measurement_of(case)
        )

    assert store.read_end(store.sweep_ids()[0]) is None


def test_a_sweep_whose_end_alone_is_missing_gets_one_and_measures_nothing(run_on_gpu, store):
    sweep_id = run_on_gpu().sweep_id
    (store.path / sweep_id / "end.json").unlink()
    second = run_on_gpu()

    assert (second.sweep_id, second.batch_sizes) == (sweep_id, [])
    assert second.end.statuses == {"ok": 3}
    assert second.end.measured_s == 0


def test_a_sweep_whose_end_is_broken_gets_another(run_on_gpu, store):
    sweep_id = run_on_gpu().sweep_id
    (store.path / sweep_id / "end.json").write_text("{")

    assert run_on_gpu().end.planned == 3


def test_a_finished_sweep_keeps_its_end(run_on_gpu):
    assert run_on_gpu().end == run_on_gpu().end


def test_a_resumed_sweep_ends_anew_with_the_records_of_both_runs(run_on_gpu, fake_device):
    run_on_gpu(lambda case, call: "crashed" if call == 1 else fake_device.measurement_of(case))
    second = run_on_gpu()

    assert second.batch_sizes == [2]
    assert second.end.statuses == {"ok": 3}


def test_a_resumed_sweep_that_is_stopped_does_not_keep_the_end_of_an_earlier_run(
    run_on_gpu, store, fake_device
):
    first = run_on_gpu(
        lambda case, call: "crashed" if call == 1 else fake_device.measurement_of(case)
    )
    with pytest.raises(KeyboardInterrupt):
        run_on_gpu(lambda case, call: KeyboardInterrupt())

    assert first.end is not None
    assert store.read_end(first.sweep_id) is None


def test_a_record_that_was_not_planned_does_not_stand_in_for_one_that_was(run_on_gpu, store):
    sweep_id = run_on_gpu().sweep_id
    (store.path / sweep_id / "end.json").unlink()
    (record, *_) = store.read(sweep_id).records
    case = record.case.model_copy(update={"batch_size": 99})
    store.write_record(record.model_copy(update={"case": case, "case_id": case.case_id}))

    assert run_on_gpu().end.statuses == {"ok": 3}
