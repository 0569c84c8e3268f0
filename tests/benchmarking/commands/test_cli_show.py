"""Showing and exporting records, whatever the store, the reader and the locale are like."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarking.views.views import VIEWS
from results.records.measurement import Kernels, KernelTime, Pipeline, Work
from results.records.schema import Check

CHECKS = {"spread": Check(value=0.5, limit="<= 0.05", verdict="warn", reason="a|b")}
RECOMMEND = "recommend -m tiny -s 64"
SAM_BENCH = Path(sys.executable).with_name("sam-bench")


def table_of(markdown):
    """Cells of the rows of Markdown tables below their heads; all lines of a table have as many."""
    found = []
    for table in re.split(r"^\*\*", markdown, flags=re.MULTILINE):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if "| ---" not in line]
        assert len({len(row) for row in rows}) <= 1
        found += rows[1:]
    return found


@pytest.fixture
def mixed_store(make_store, make_record, make_case):
    """A case that is ok, one that failed, one that was not run; all with names to escape."""
    ok = make_record(batch_size=1, weights="a|b,ü", checks=CHECKS)
    records = ok, make_record("oom", batch_size=2)
    return make_store(*records, not_run=(make_case(batch_size=4),))


@pytest.fixture
def full_store(make_store, measured, make_record):
    """Of which every view has something to show, and some cases less than others."""
    times = (KernelTime(module="blocks.0", kind="window", name="a|b", calls=1, total_s=1e-3),)
    part = {"kind": "window", "flops": 4e9, "image_bytes": 1e8}
    records = measured([part], (1, 4), checks=CHECKS)
    measurement = records[0].measurement.with_passes(
        kernels=Kernels(forwards=1, times=times), components=Pipeline(stages_s={"decode": (0.5,)})
    )
    traced = records[0].model_copy(update={"measurement": measurement})
    return make_store(traced, records[1], make_record(batch_size=1), make_record("oom"))


STORES = {
    "full": "full_store",
    "mixed": "mixed_store",
    "only failures": "failed_store",
}


@pytest.fixture
def failed_store(make_store, make_record):
    return make_store(make_record("oom"))


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_json_csv_and_markdown_can_be_parsed(invoke, request, by, store):
    request.getfixturevalue(store)
    shown = {form: invoke(f"show {by} --format {form}") for form in ("json", "csv", "md")}
    rows = json.loads(shown["json"].stdout)

    assert {result.exit_code for result in shown.values()} == {0}
    assert len(pd.read_csv(io.StringIO(shown["csv"].stdout))) == len(rows)
    # How far a case is from its limits is told in a table only where it has a time.
    told = [row for row in rows if by != "limits" or row["image_s"] is not None]
    assert bool(table_of(shown["md"].stdout)) == bool(told)


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_every_view_of_every_store_can_be_shown_on_a_terminal(invoke, request, by, store):
    request.getfixturevalue(store)
    result = invoke(f"show {by}")

    assert result.exit_code == 0, result.exception
    assert " cases planned: " in result.stdout
    assert not re.search(r"\bnan\b", result.stdout)


def test_a_person_s_own_peaks_are_what_limits_are_of(invoke, full_store):
    (full_store.path / "hardware.toml").write_text('["a GPU"]\nfp32 = 1\nbf16 = 8\nmemory = 1000\n')
    rows = json.loads(invoke("show limits --format json").stdout)

    assert rows[0]["floor_s"] == 4e9 / 8e12


@pytest.mark.parametrize(
    "words", ["show", "show limits", "export csv limits", "recommend", "sweep -m tiny"]
)
def test_a_file_of_peaks_that_is_wrong_is_a_mistake(invoke, full_store, mistake, words):
    (full_store.path / "hardware.toml").write_text("fp32")

    assert "hardware.toml' must be TOML" in mistake(invoke(words))


def test_roofs_of_the_store_are_those_of_its_records(invoke, make_store, make_record, made_up_gpu):
    record = make_record()
    work = Work(flops=10**9, least_flops=10**9, least_bytes=1)
    measurement = record.measurement.with_passes(flops=work)
    measurement = measurement.model_copy(update={"flags": {"threads": 2}})
    store = make_store(record.model_copy(update={"measurement": measurement}))
    fp32 = {"fp32": made_up_gpu.MadeUpGpu().roofs().products["bf16"]}
    device = record.environment.device_name("cpu")
    store.write_roofs(made_up_gpu.MadeUpGpu().roofs(device=device, products=fp32))
    row = json.loads(invoke("show limits --format json").stdout)[0]

    assert row["floor_measured_s"] == pytest.approx(1e-3)


def test_json_and_csv_are_in_base_units(invoke, mixed_store):
    (row, failed) = json.loads(invoke("show --format json").stdout)
    table = pd.read_csv(io.StringIO(invoke("show --format csv").stdout))

    assert row["median_s"] == table["median_s"][0] == 0.25
    assert failed["median_s"] is None


def test_a_table_ends_with_the_reasons_and_the_count(invoke, mixed_store):
    *_, reason, count = invoke("show").stdout.splitlines()

    assert reason.startswith("oom: tiny b2 64px")
    assert count == "3 cases planned: 1 ok, 1 oom, 1 not run"


def test_a_broken_file_is_named_and_the_rest_is_shown(invoke, mixed_store):
    path = mixed_store.case_path(mixed_store.sweep_ids()[0], "0123")
    path.write_text("{")
    result = invoke("show")

    assert result.exit_code == 0
    assert result.stderr.startswith(f"passed over {path.relative_to(Path.cwd())}: it is not JSON")
    assert "1 ok" in result.stdout


def test_counts_add_up_where_the_plan_is_broken(invoke, mixed_store):
    (mixed_store.path / mixed_store.sweep_ids()[0] / "sweep.json").write_text("{")
    count = invoke("show").stdout.splitlines()[-1]

    assert count in ("2 cases planned: 1 ok, 1 oom", "2 cases planned: 1 oom, 1 ok")


def test_the_newest_sweep_is_shown_and_all_where_asked(invoke, make_store, make_record):
    names = "20250101-1", "20250102-2"
    make_store(*(make_record(sweep_id=name) for name in names))
    newest, all_of_them, first = (
        {row["sweep_id"] for row in json.loads(invoke(f"show --format json {flag}").stdout)}
        for flag in ("", "--sweep all", f"--sweep {names[0]}")
    )

    assert (newest, all_of_them, first) == ({names[1]}, set(names), {names[0]})


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize(("form", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_an_export_is_the_table_in_base_units(invoke, full_store, by, form, read):
    result = invoke(f"export {form} {by}")
    shown = json.loads(invoke(f"show {by} --format json").stdout)
    table = read(f"{by}.{form}")

    assert result.stdout == f"{len(table)} rows in {by}.{form}\n"
    assert list(table.columns) == list(shown[0])
    assert len(table) == len(shown)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_overwrites_nothing(invoke, mixed_store, tmp_path, form, mistake):
    (tmp_path / "mine").write_text("precious")
    line = mistake(invoke(f"export {form} -o mine"))

    assert "'mine' exists: name another file with --output" in line
    assert (tmp_path / "mine").read_text() == "precious"


OUTPUTS = {
    "folder": (".", "exists"),
    "root": ("/", "exists"),
    "no folder": ("gone/cases.csv", "can't be written: .*non-existent directory"),
    "long name": ("n" * 300, "can't be written: File name too long"),
    "link to itself": ("loop", "can't be written: .*Too many levels of symbolic links"),
    "pipe": ("pipe", "exists"),
}


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(("name", "reason"), OUTPUTS.values(), ids=OUTPUTS)
def test_an_export_to_what_is_no_new_file_is_refused(
    invoke, mixed_store, tmp_path, form, name, reason, mistake
):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")

    assert re.search(reason, mistake(invoke(f"export {form} -o {name}")))


@pytest.mark.parametrize("words", ["doctor --store file", "doctor --store file/runs"])
def test_a_doctor_that_finds_a_fault_ends_with_exit_code_5(invoke, tmp_path, words):
    (tmp_path / "file").touch()
    result = invoke(words)

    assert result.exit_code == 5
    assert "BAD store: " in result.stdout


# For true

# Where a view tells batch sizes, and of a sweep of 1, 2 and 4, where it is another column than all.
SIZES = {
    "batching": ("to_batch", {2, 4}),
    "capacity": ("largest_batch", {4}),
    "kernels": ("batch_size", set()),  # which were not asked for
}


@pytest.mark.parametrize("by", VIEWS)
def test_views_of_a_true_store_can_be_parsed(true_sweep, invoke, by):
    shown = {
        form: invoke(f"show {by} --format {form} --store", true_sweep.store).stdout
        for form in ("json", "csv", "md")
    }
    rows = json.loads(shown["json"])

    column, sizes = SIZES.get(by, ("batch_size", {1, 2, 4}))
    assert {row[column] for row in rows} == sizes
    assert len(pd.read_csv(io.StringIO(shown["csv"]))) == len(rows)
    assert bool(table_of(shown["md"])) == bool(sizes)


def test_a_batch_size_of_a_true_store_is_recommended(true_sweep, invoke):
    result = invoke(f"{RECOMMEND} --format json --store", true_sweep.store)

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["batch_size"] in {1, 2, 4}


def test_what_no_module_of_a_true_store_accounts_for_has_a_row(true_sweep, invoke):
    rows = json.loads(invoke("show modules --format json --store", true_sweep.store).stdout)
    blocks = [f"blocks.{index}" for index in range(4)]

    assert [row["module"] for row in rows] == ["patch_embed", *blocks, "neck", "unattributed"] * 3


PRINTING = [
    "--help", "choices", "show", "show modules", "show --format json", RECOMMEND, "sweep",
]  # fmt: skip


@pytest.mark.parametrize("words", PRINTING)
def test_a_reader_that_goes_away_early_gets_no_traceback(true_sweep, words):
    words = true_sweep.command if words == "sweep" else words
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [SAM_BENCH, *words.split()],
        cwd=true_sweep.folder, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)

    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    "locale",
    [{"LANG": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["LANG=C", "ASCII alone"],
)
@pytest.mark.parametrize(
    "words", ["choices", "show", "show --format md", "show --format csv", RECOMMEND]
)
def test_a_locale_without_unicode_is_enough(mixed_store, tmp_path, words, locale, run_process):
    done = run_process(*words.split(), cwd=tmp_path, **locale)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
