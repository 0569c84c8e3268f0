"""`sam-bench report`: what it writes, what it says, and what it refuses in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dashboards.__main__ import main
from results.records.store import Store

SAM_BENCH = Path(sys.executable).with_name("sam-bench")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command in tmp_path."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(
        main, ["report", *map(str, words)], prog_name="sam-bench"
    )


@pytest.fixture(scope="module")
def page_of_tiny(tiny, tmp_path_factory):
    """What the command writes of the fewest records."""
    path = tmp_path_factory.mktemp("written") / "out.html"
    CliRunner().invoke(main, ["report", str(path), str(tiny)], catch_exceptions=False)
    return path.read_text()


@pytest.fixture
def refused(call):
    """What a refusal says, in its one line."""

    def ask(*words):
        result = call(*words)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.strip().splitlines()
        assert "Traceback" not in result.output
        return line

    return ask


def test_it_writes_a_page_and_says_of_how_many_cases(call, store):
    result = call("out.html", "runs")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{len(store.read().records)} cases in out.html, ")
    assert Path("out.html").read_text().startswith("<!doctype html>")


def test_without_stores_it_reads_runs(call, store):
    assert call("out.html").stdout.startswith(f"{len(store.read().records)} cases in ")


def test_several_stores_are_shown_together(call, store):
    other = Store("more")
    for record in store.read().records:
        other.write_record(record.model_copy(update={"sweep_id": f"{record.sweep_id}-again"}))
    result = call("out.html", "runs", "more")

    assert result.stdout.startswith(f"{2 * len(store.read().records)} cases in ")


def test_a_record_that_two_stores_have_is_shown_once(call, store):
    shutil.copytree("runs", "copy")
    result = call("out.html", "runs", "copy")

    assert result.stdout.startswith(f"{len(store.read().records)} cases in ")


def test_the_page_of_two_copies_of_a_store_is_that_of_one(call, store, page_of_tiny):
    shutil.copytree("runs", "copy")
    call("two.html", "runs", "copy")

    assert Path("two.html").read_text() == page_of_tiny


def test_a_title_stands_on_the_page(call, store):
    call("out.html", "runs", "--title", "Ours & <theirs>")

    assert "<h1>Ours &amp; &lt;theirs&gt;</h1>" in Path("out.html").read_text()


def test_a_file_that_is_there_is_refused_and_left_as_it_is(refused, store):
    Path("out.html").write_text("mine")

    assert "--force" in refused("out.html", "runs")
    assert Path("out.html").read_text() == "mine"


def test_force_replaces_a_file(call, store):
    Path("out.html").write_text("mine")
    result = call("out.html", "runs", "--force")

    assert result.exit_code == 0, result.stderr
    assert Path("out.html").read_text().startswith("<!doctype html>")


def test_a_refusal_with_force_leaves_the_file_as_it_is(refused):
    Path("out.html").write_text("mine")
    refused("out.html", "nowhere", "--force")

    assert Path("out.html").read_text() == "mine"


def test_a_store_that_is_not_there_is_refused(refused):
    assert "'nowhere'" in refused("out.html", "nowhere")
    assert not Path("out.html").exists()


def test_asking_for_a_store_does_not_make_one(refused):
    refused("out.html", "nowhere")

    assert os.listdir() == []


def test_an_empty_store_is_refused_and_says_how_to_fill_it(refused):
    Path("empty").mkdir()

    assert "sam-bench quickstart" in refused("out.html", "empty")
    assert not Path("out.html").exists()


def test_a_file_is_no_store(refused):
    Path("file").write_text("")

    assert "'file'" in refused("out.html", "file")


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_is_no_place_for_a_page(refused, store, force):
    Path("folder").mkdir()

    assert "'folder'" in refused("folder", "runs", *force)
    assert os.listdir("folder") == []


def test_a_page_below_a_file_is_refused(refused, store):
    Path("file").write_text("mine")

    assert "file" in refused("file/out.html", "runs")


def test_a_broken_record_is_passed_over_and_named_on_the_page(call, store):
    sweep_id = store.sweep_ids()[0]
    record = store.read(sweep_id).records[0]
    path = store.case_path(sweep_id, record.case_id)
    path.write_text("{")
    count = len(store.read().records)
    result = call("out.html", "runs")

    assert result.stdout.startswith(f"{count} cases in ")
    assert (
        f"<p>Passed over {path.relative_to(Path.cwd())}: it is not JSON"
        in Path("out.html").read_text()
    )


def test_the_page_of_a_made_up_store_says_synthetic(page_of_tiny):
    assert 'class="synthetic" role="note"' in page_of_tiny


def test_the_page_of_one_made_up_store_among_others_says_synthetic(call, store):
    other = Store("measured")
    for sweep_id in store.sweep_ids():
        for record in store.read(sweep_id).records:
            measured = {"is_synthetic": False, "sweep_id": f"{sweep_id}-measured"}
            other.write_record(record.model_copy(update=measured))
    call("both.html", "measured", "runs")
    call("measured.html", "measured")

    assert 'class="synthetic" role="note"' in Path("both.html").read_text()
    assert 'class="synthetic" role="note"' not in Path("measured.html").read_text()


def test_sam_bench_shows_the_same_help(call):
    said = subprocess.run(
        [SAM_BENCH, "report", "--help"], capture_output=True, text=True, check=True,
        env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip

    assert said.stdout == call("--help").stdout
    assert "sam-bench report out.html runs" in said.stdout


def test_sam_bench_writes_the_page(store, tmp_path):
    said = subprocess.run(
        [SAM_BENCH, "report", "out.html", "runs"], capture_output=True, text=True, cwd=tmp_path
    )

    assert said.returncode == 0, said.stderr
    assert (tmp_path / "out.html").stat().st_size > 0


def test_sam_bench_hands_on_a_refusal(tmp_path):
    said = subprocess.run(
        [SAM_BENCH, "report", "out.html", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )

    assert said.returncode == 2
    assert len(said.stderr.strip().splitlines()) == 1
