"""The page of regressions: steps over time, what gates judged, what somebody accepted."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from plotly.utils import PlotlyJSONEncoder

from dashboards.data import Data
from dashboards.details import overview_cards, regression_tables
from dashboards.figures import FIGURES
from dashboards.figures.series import current
from dashboards.view import ViewState
from results.records.case import Case
from results.records.store import to_json, write_whole
from results.verdicts.decision import Rule
from results.verdicts.gates import Acceptance, Cell, GateFile, ModuleChange, Pair, Side

from .conftest import view_of, write_store
from .serving import said

OF_THE_NEWEST = [name for name, spec in FIGURES.items() if spec.frame == "current"]


def make_cell(verdict="REGRESSED", **changes):
    case = Case(
        model="vit_b", batch_size=8, image_size=1024, precision="bf16", attention="sdpa",
        execution="eager", device="cuda:0", input="noise", weights="random",
    )  # fmt: skip
    fields = {"label": "vit_b b8 1024px", "base": case, "head": case, "verdict": verdict}
    values = {"pairs": 10, "ratio": 1.06, "ratio_low": 1.05, "ratio_high": 1.07}
    return Cell(**fields | values | changes)


def make_gate(*cells, **changes):
    pair = Pair(is_head_first=True, base_sweep_id="a", head_sweep_id="b", wall_s=2.0)
    fields = {
        "gate_id": "20260301-090000-gate", "created_at": "2026-03-01T09:00:00+00:00",
        "command": "sam-bench compare --ab main .", "seed": 0, "rule": Rule(),
        "base": Side(label="main"), "head": Side(label="."), "pairs": (pair,) * 10,
        "cells": cells, "is_finished": True,
    }  # fmt: skip
    return GateFile(**fields | changes)


def write_gate(store, gate):
    write_whole(store.path / "gates" / gate.gate_id / "gate.json", to_json(gate))


def words(parts):
    """What a person reads of parts of a page."""
    return said(json.loads(json.dumps(parts, cls=PlotlyJSONEncoder)))


def told(frames):
    """All that the page says below its figure."""
    return words(regression_tables(frames))


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    """Enough sessions for a step to be seen."""
    path = tmp_path_factory.mktemp("stepped")
    return write_store(path, BATCHES=(4,), COMMITS=16, SLOWER_FROM=12)


def test_a_step_is_told_with_its_commit_and_size(stepped):
    text = told(view_of(stepped.path))

    assert "2026-01-18" in text
    assert re.search(r"\+[56]\.\d", text)
    assert "vit_l" in text
    assert "vit_b" not in text


def test_a_step_is_marked_in_the_figure(stepped):
    spec = FIGURES["history"]
    figure = spec.make(view_of(stepped.path)[spec.frame])
    steps = [each for each in figure.layout.annotations if each.showarrow]

    assert [pd.Timestamp(each.x).day for each in steps] == [18]
    assert re.fullmatch(r"\+[56]\.\d %", steps[0].text)


def test_without_a_step_nothing_is_marked(demo_view):
    spec = FIGURES["history"]
    figure = spec.make(demo_view[spec.frame])

    assert [each for each in figure.layout.annotations if each.showarrow] == []
    assert "no step" in told(demo_view)


def test_the_overview_counts_what_is_slower_since_a_step(stepped, demo_view):
    texts = [words(overview_cards(each)) for each in (view_of(stepped.path), demo_view)]
    counts = [re.search(r"Regressions\n(\d+)\n", text)[1] for text in texts]

    assert counts == ["1", "0"]


def test_without_a_gate_the_page_says_how_to_run_one(demo_view):
    assert "sam-bench compare --ab" in told(demo_view)


def test_a_gate_is_told_with_what_is_to_blame(store):
    blamed = ModuleChange(module="blocks.2", kind="global", ratio=1.2, lost_s=0.001)
    write_gate(store, make_gate(make_cell(modules=(blamed,)), make_cell("OK")))
    text = told(view_of(store.path))

    assert "main against ." in text
    assert "1 of 2 cells are OK" in text
    assert "REGRESSED" in text
    assert "+6.00" in text
    assert "blocks.2 (global)" in text


def test_an_accepted_regression_has_its_reason(store):
    word = Acceptance(
        case="vit_b b8 1024px", up_to=1.07, reason="exact masks", author="Ada", date="2026-03-01"
    )
    write_gate(store, make_gate(make_cell(accepted=word)))

    assert "accepted by Ada: exact masks" in told(view_of(store.path))


def test_a_gate_that_was_stopped_says_so(store):
    write_gate(store, make_gate(make_cell("INCONCLUSIVE"), is_finished=False))

    assert "not finished" in told(view_of(store.path))


def test_the_newest_gate_counts_in_the_overview(store):
    write_gate(store, make_gate(make_cell(), make_cell("OK")))

    assert "newest gate: 1 cells" in words(overview_cards(view_of(store.path)))


def test_a_gate_that_is_added_is_shown_at_the_next_reading(store):
    data = Data([store.path], keep=False)
    before = data.refresh().stamp
    write_gate(store, make_gate(make_cell()))

    assert data.refresh().stamp != before
    assert "REGRESSED" in told(data.frames(ViewState()))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema_version": 999}'])
def test_a_broken_gate_is_a_note_and_no_error(store, content):
    path = store.path / "gates" / "broken" / "gate.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    data = Data([store.path], keep=False)
    snapshot = data.refresh()

    assert snapshot.errors == ()
    assert [note for note in snapshot.notes if str(path) in note]
    assert len(snapshot.frames["cases"])


# What the figures of scaling are made of


def test_there_are_figures_of_the_newest_cases_alone():
    assert {"throughput", "latency", "memory"} <= set(OF_THE_NEWEST)


@pytest.mark.parametrize("name", OF_THE_NEWEST)
def test_a_figure_of_the_newest_cases_is_that_of_all(stepped, name):
    frames = view_of(stepped.path)
    of_all, of_newest = (FIGURES[name].make(frames[each]) for each in ("cases", "current"))

    assert len(frames["current"]) < len(frames["cases"])
    assert json.loads(of_all.to_json()) == json.loads(of_newest.to_json())


def test_of_equal_cases_one_stays_for_each_outcome(frames):
    cases = frames["cases"].head(1)
    again = cases.assign(started_at="2099-01-01T00:00:00+00:00", record_id="again")
    failed = again.assign(status="crashed", median_s=None, peak_bytes=None, record_id="failed")
    rows = current(pd.concat([cases, again, failed], ignore_index=True))

    assert list(rows["record_id"]) == ["again", "failed"]
