"""Kernels from the command line: a traced sweep for true, and what is shown of it."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest
from click.testing import CliRunner

from benchmarking.cli import main
from benchmarking.machine import environment as environment_file
from results.records.store import Store
from results.tables.frames import kernel_frame

HASTY = (
    "--device cpu --input noise --warmup-s 0 --warmup-forwards 1 --warmup-cap-s 0.5 "
    "--min-timed-s 0 --max-timed-s 0.5 --min-forwards 1 --max-forwards 1"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, here, one_thread):
    """Where a sweep of two cases was run for true, with traces."""
    folder = tmp_path_factory.mktemp("traces")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(environment_file, "probe_environment", lambda: here)
        line = f"sweep --trace -m tiny -s 32 -b 1,2 --passes latency {HASTY}"
        result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def show(invoke, folder):
    def run(line="show kernels"):
        result = invoke(line, "--store", folder / "runs")
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return run


def test_a_traced_sweep_stores_the_trace_of_each_case(folder):
    store = Store(folder / "runs")
    records = store.read().records
    paths = [store.trace_path(record.sweep_id, record.case_id) for record in records]

    assert len(paths) == 2
    assert all("traceEvents" in json.loads(gzip.decompress(path.read_bytes())) for path in paths)


def test_a_traced_sweep_measures_what_was_asked_for_and_kernels(folder):
    plans = {record.plan.passes for record in Store(folder / "runs").read().records}

    assert plans == {("latency", "kernels")}


def test_shares_of_true_kernels_add_up_to_1(folder):
    frame = kernel_frame(Store(folder / "runs").read().records)

    assert list(frame.groupby("batch_size")["share"].sum()) == pytest.approx([1, 1])


def test_kernels_are_shown_with_the_operations_of_each_case(show):
    shown = show()

    assert "Kernels of a forward: batch_size 1" in shown
    assert "Kernels of a forward: batch_size 2" in shown
    assert "aten::addmm" in shown


def test_kernels_are_shown_as_json(show):
    rows = json.loads(show("show kernels --format json"))

    assert {"window", "global", "patch_embed", "neck"} <= {row["kind"] for row in rows}
    assert all(row["total_s"] >= 0 for row in rows)


def test_kernels_are_shown_as_csv(show, folder):
    rows = list(csv.DictReader(io.StringIO(show("show kernels --format csv"))))

    assert len(rows) == len(kernel_frame(Store(folder / "runs").read().records))


def test_kernels_are_shown_as_markdown(show):
    shown = show("show kernels --format md")

    assert "| kind | kernel | calls | time [ms] | share [%] |" in shown
    assert "aten::addmm" in shown


def test_the_store_of_a_traced_sweep_is_fine(show):
    assert show("store verify").endswith("all fine\n")


@pytest.mark.parametrize(
    ("form", "nothing"), [("table", ""), ("json", "[]"), ("csv", "record_id,"), ("md", "")]
)
def test_without_traces_no_table_is_shown(invoke, make_store, make_record, form, nothing):
    make_store(make_record())
    result = invoke(f"show kernels --format {form}")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(nothing)
    assert "Kernels of a forward" not in result.stdout


def test_a_trace_that_is_asked_for_twice_is_made_once(invoke, launcher):
    invoke("sweep --trace -m tiny -b 1 --passes latency,kernels")
    (record,) = Store("runs").read().records

    assert record.plan.passes == ("latency", "kernels")


def test_without_a_trace_none_is_stored(invoke, launcher, tmp_path):
    invoke("sweep -m tiny -b 1")

    assert list((tmp_path / "runs").rglob("*.gz")) == []
