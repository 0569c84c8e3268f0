"""A pass is added by one module and one row: it is planned, measured, stored and shown."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from click.testing import CliRunner
from pydantic import BaseModel

from benchmarking.choices.settings import parse_sweep
from benchmarking.cli import main
from benchmarking.errors import SweepError
from benchmarking.measuring.measure import PassError, measure_case
from benchmarking.measuring.passes.table import PASSES, Pass
from benchmarking.measuring.rig import build_rig
from benchmarking.options.sweep_options import sweep_flags
from benchmarking.sweeping.estimate import case_seconds
from benchmarking.sweeping.runner import measured_s
from dashboards.data import Data
from dashboards.tables import TABLES, csv_text, shown_table
from dashboards.view import ViewState
from results.records.case import TimingPlan
from results.records.measurement import OtherResult
from results.records.merge import merge
from results.records.store import Store
from results.tables.frames import case_frame

NAME = "gradient"
COLUMNS = ("gradient_norm", "gradient_step_s", "gradient_held_bytes")


# What a new file would hold


class Gradient(BaseModel):
    """The gradient of an embedding with respect to the image."""

    norm: float
    step_s: tuple[float, ...]
    held_bytes: int
    is_finite: bool
    of: str


def run_gradient(bench):
    pixels = bench.batches[0].clone().requires_grad_()
    bench.rig.encode(pixels).sum().backward()
    bench.notes[NAME] = "of the sum of the embedding"
    return Gradient(
        norm=float(pixels.grad.norm()), step_s=(0.5, 0.25, 0.125), held_bytes=pixels.grad.nbytes,
        is_finite=bool(pixels.grad.isfinite().all()), of="the pixels",
    )  # fmt: skip


def why_no_gradient(case):
    return "onnxruntime has no gradients" if case.execution == "onnxruntime" else None


# And what a new row


ROW = Pass(
    "gradient of the embedding",
    Gradient,
    run_gradient,
    lambda case, plan, forward_s: 3 * forward_s,
    why_no_gradient,
    on_request=True,
    needs_gradients=True,
)


@pytest.fixture(autouse=True)
def added(monkeypatch):
    monkeypatch.setitem(PASSES, NAME, ROW)


@pytest.fixture
def measured(run_case):
    return run_case(passes=("latency", NAME), image_size=32)


@pytest.fixture
def store(measured, make_record, make_store):
    """A case with the new pass, and one without."""
    record = make_record(batch_size=2, image_size=32, measurement=measured)
    return make_store(record, make_record(batch_size=1, image_size=32))


@pytest.fixture
def show(store):
    """Call sam-bench on the store; what it prints."""

    def call(words):
        result = CliRunner().invoke(main, [*words.split(), "--store", str(store.path)])
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


# Planned


def test_it_runs_if_it_is_named_and_after_those_before_it():
    assert parse_sweep({"passes": f"{NAME},latency"})[1].passes == ("latency", NAME)
    assert NAME not in parse_sweep({})[1].passes


def test_it_is_in_the_help():
    (option,) = (each for each in sweep_flags() if each.name == "passes")

    assert f"{NAME} only if named" in option.help


def test_a_pass_on_by_default_is_in_every_plan(monkeypatch):
    monkeypatch.setitem(PASSES, NAME, Pass("of", Gradient, run_gradient, ROW.seconds))
    (option,) = (each for each in sweep_flags() if each.name == "passes")

    assert parse_sweep({})[1].passes[-1] == NAME
    assert f"{NAME}]" in option.help


def test_a_misspelt_name_is_refused_with_a_suggestion():
    with pytest.raises(SweepError, match="Did you mean 'gradient'"):
        parse_sweep({"passes": "gradeint"})


def test_its_time_is_in_the_estimate(make_case):
    plans = [TimingPlan(passes=passes) for passes in ((), (NAME,))]
    without, with_it = (case_seconds(make_case(), plan) for plan in plans)

    assert with_it > without


# Measured


def test_it_is_measured_with_gradients_on_and_others_without(run_case, monkeypatch):
    seen = {}

    def spy(name):
        true = PASSES[name].run

        def spying(bench):
            seen[name] = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
            return true(bench)

        return spying

    for name in ("latency", NAME):
        row = PASSES[name]
        monkeypatch.setitem(PASSES, name, Pass(
            row.summary, row.result, spy(name), row.seconds, needs_gradients=row.needs_gradients
        ))  # fmt: skip
    run_case(passes=("latency", NAME), image_size=32)

    assert seen == {"latency": (True, False), NAME: (False, True)}


def test_its_result_and_note_are_in_the_measurement(measured):
    result = measured.passes[NAME]

    assert list(measured.passes) == ["latency", NAME]
    assert isinstance(result, OtherResult)
    assert result.norm > 0
    assert result.fields["step_s"] == [0.5, 0.25, 0.125]
    assert measured.notes == {NAME: "of the sum of the embedding"}


def test_a_case_that_can_not_have_it_has_the_reason(make_case, make_plan):
    rig = build_rig(make_case(image_size=32), make_plan())
    case = make_case(image_size=32, execution="onnxruntime")
    measured = measure_case(case, make_plan(passes=(NAME,)), rig, lambda stage: None)

    assert measured.passes == {}
    assert measured.notes == {NAME: "unsupported: onnxruntime has no gradients"}


def test_where_it_fails_what_was_measured_before_is_kept(run_case, monkeypatch):
    def fail(bench):
        raise RuntimeError("no gradient")

    monkeypatch.setitem(PASSES, NAME, Pass("of", Gradient, fail, ROW.seconds))
    with pytest.raises(PassError) as caught:
        run_case(passes=("latency", NAME), image_size=32)

    assert list(caught.value.measurement.passes) == ["latency"]


def test_its_seconds_are_part_of_the_measured_time(make_record, measured):
    own = make_record(measurement=measured.with_passes(latency=None))

    assert measured_s(own) == 0.875


# Stored and shown, with no row in the table: whoever reads need not know of the pass


@pytest.fixture
def forgotten(store, monkeypatch):
    monkeypatch.delitem(PASSES, NAME)


@pytest.mark.usefixtures("forgotten")
def test_its_record_is_read_and_merged(store, measured, tmp_path):
    target = Store(tmp_path / "merged")
    merge([store], target)
    contents = target.read()

    assert contents.problems == []
    assert measured.passes[NAME] in [
        record.measurement.passes.get(NAME) for record in contents.records
    ]


@pytest.mark.usefixtures("forgotten")
def test_it_has_columns_at_the_end_of_the_frame_of_cases(store):
    frame = case_frame(store.read().records).set_index("batch_size")

    assert tuple(frame.columns[-3:]) == COLUMNS
    assert frame.loc[2, "gradient_step_s"] == 0.25
    assert frame.loc[1, list(COLUMNS)].isna().all()


@pytest.mark.usefixtures("forgotten")
def test_it_is_shown_in_its_unit(show):
    heading, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in show("show cases --format md").splitlines()
        if line.startswith("|")
    )

    assert heading[-3:] == ["gradient norm", "gradient step [ms]", "gradient held [MiB]"]
    assert sorted(row[-2] for row in rows[1:]) == ["-", "250"]


@pytest.mark.usefixtures("forgotten")
def test_it_is_exported_in_base_units(show, store, tmp_path):
    show(f"export csv cases -o {tmp_path / 'cases.csv'}")
    rows = csv.DictReader((tmp_path / "cases.csv").read_text().splitlines())
    steps = {row["batch_size"]: row["gradient_step_s"] for row in rows}

    assert steps == {"1": "", "2": "0.25"}


@pytest.mark.usefixtures("forgotten")
def test_it_is_exported_as_json(show):
    rows = {row["batch_size"]: row for row in json.loads(show("show cases --format json"))}

    assert rows[2]["gradient_step_s"] == 0.25
    assert rows[1]["gradient_step_s"] is None


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("keep", [True, False])
def test_the_dashboards_table_of_cases_has_it(store, keep):
    for _ in range(2):  # the second time from the index
        data = Data([store.path], keep=keep)
        data.refresh()
    frame = data.frames(ViewState())["cases"]
    table = shown_table(frame, TABLES["cases"].columns)

    assert tuple(table.columns[-3:]) == (
        "gradient norm", "gradient step [ms]", "gradient held [MiB]",
    )  # fmt: skip
    assert sorted(table["gradient step [ms]"]) == ["-", "250"]
    assert "gradient_step_s" in csv_text(frame, TABLES["cases"].columns)
