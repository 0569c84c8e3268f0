"""What a person sees while a sweep runs, on a terminal and in a log."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarking.views import progress
from benchmarking.views.progress import (
    ESTIMATING_SHARE,
    BarWatcher,
    Estimator,
    PlainWatcher,
    begin_line,
    byte_progress,
    case_line,
    duration,
    make_watcher,
)
from results.records.case import TimingPlan
from results.records.schema import STATUSES


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)


@pytest.fixture
def watch(make_store, make_record):
    """Let a watcher see a sweep of these records; give what it printed."""

    def run(make, terminal, *records):
        (sweep,) = make_store(*records).read().sweeps
        shown = console(terminal)
        watcher = make(shown)
        watcher.begin(sweep, [record.case for record in records])
        for record in records:
            watcher.case_begins(record.case)
            watcher.stage("latency")
            watcher.case_ends(record)
        watcher.end()
        return shown.file.getvalue()

    return run


@pytest.mark.parametrize(("terminal", "kind"), [(True, BarWatcher), (False, PlainWatcher)])
def test_a_bar_is_for_terminals_and_lines_for_the_rest(terminal, kind):
    assert type(make_watcher(console(terminal))) is kind


def test_a_bar_that_never_began_can_end():
    """As where a file in the store can't be used: that is what a person must be told."""
    BarWatcher(console(terminal=True)).end()


def test_a_log_has_a_line_a_case_with_what_is_left(watch, make_record):
    records = [make_record(batch_size=1), make_record("oom", batch_size=2)]
    first, second, third = watch(PlainWatcher, False, *records).splitlines()

    assert first == f"Sweep {records[0].sweep_id}: 2 cases."
    assert first_words(second) == "[1/2] tiny b1 64px"
    assert "250 ms/image, 4 images/s, about " in second
    assert third == f"[2/2] {records[1].case.label}: oom why it is oom"


def first_words(line):
    return " ".join(line.split()[:4])


def test_a_terminal_has_the_same_lines_above_its_bar(watch, make_record):
    records = [make_record(batch_size=1), make_record("oom", batch_size=2)]
    text = watch(BarWatcher, True, *records)

    assert "[1/2] tiny b1 64px" in text
    assert "[2/2] tiny b2 64px" in text


def test_text_that_looks_like_markup_is_shown_as_it_is(watch, make_record):
    text = watch(BarWatcher, True, make_record("crashed", message="[bold]no[/bold] [/red]"))

    assert "crashed [bold]no[/bold] [/red]" in text


@pytest.mark.parametrize("status", [name for name in STATUSES if name not in ("ok", "not_run")])
def test_a_case_without_a_number_shows_its_status_and_reason(make_record, status):
    assert case_line(make_record(status)).endswith(f": {status} why it is {status}")


def test_a_case_whose_latency_was_not_asked_for_is_ok(make_record):
    record = make_record()
    measurement = record.measurement.with_passes(latency=None)

    assert case_line(record.model_copy(update={"measurement": measurement})).endswith(": ok")


def test_a_message_can_not_drive_a_terminal(make_record):
    assert case_line(make_record("crashed", message="\x1b[31m\nred")).endswith("?[31m?red")


@pytest.mark.parametrize(
    ("left", "line"),
    [
        (3, "Sweep {id}: 3 cases."),
        (1, "Sweep {id} goes on: 2 of 3 cases are done."),
        (0, "All 3 cases of sweep {id} are measured (--fresh measures again)."),
    ],
)
def test_a_sweep_begins_by_saying_what_is_done(make_store, make_record, left, line):
    records = [make_record(batch_size=size) for size in (1, 2, 3)]
    (sweep,) = make_store(*records).read().sweeps
    cases = list(sweep.cases[:left])

    assert begin_line(sweep, cases) == line.format(id=sweep.sweep_id)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (42, "42 s"),
        (99.4, "99 s"),
        (180, "3 min"),
        (4800, "80 min"),
        (6060, "1 h 41 min"),
    ],
)
def test_a_duration_is_short(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("terminal", [False, True])
def test_a_download_is_shown_on_a_terminal_alone(terminal):
    shown = console(terminal)
    with byte_progress("file.pth", 1000, shown) as on_progress:
        on_progress(1000, 1000)

    assert ("file.pth" in shown.file.getvalue()) is terminal


# What is left

CASE_S, ADDING_S = 2.0, 0.01  # of each case, and of estimating it


@pytest.fixture
def costly(monkeypatch):
    """Let each case's estimate take a while, on a clock that nothing else moves."""
    clock = SimpleNamespace(now_s=0.0, added=0)

    def seconds(case, plan, rates):
        clock.now_s += ADDING_S
        clock.added += 1
        return CASE_S

    monkeypatch.setattr(progress, "case_seconds", seconds)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


@pytest.fixture
def many(make_case):
    return [make_case(batch_size=size) for size in range(1, 101)]


def test_what_is_left_is_added_up_over_the_cases(costly, many):
    assert Estimator(TimingPlan()).seconds(many) == CASE_S * 100


def test_cases_side_by_side_take_their_share_of_the_time(costly, many):
    assert Estimator(TimingPlan(), lanes=4).seconds(many) == CASE_S * 25


@pytest.mark.parametrize("lanes", [0, 1])
def test_without_a_lane_it_is_as_with_one(costly, many, lanes):
    assert Estimator(TimingPlan(), lanes).seconds(many) == CASE_S * 100


def test_of_no_cases_nothing_is_left(costly):
    assert Estimator(TimingPlan()).seconds([]) == 0


def test_many_cases_are_seldom_added_up(costly, many):
    estimator = Estimator(TimingPlan())
    for _ in range(50):
        estimator.seconds(many)

    assert costly.added == 100


def test_in_between_the_mean_of_the_last_time_holds(costly, many):
    estimator = Estimator(TimingPlan())
    estimator.seconds(many)

    assert estimator.seconds(many[:30]) == CASE_S * 30
    assert costly.added == 100


def test_adding_up_takes_a_small_share_of_the_time(costly, many):
    estimator = Estimator(TimingPlan())
    for _ in range(100_000):
        estimator.seconds(many)
        costly.now_s += 0.01  # a case ends
    share = costly.added * ADDING_S / costly.now_s

    assert 0 < share <= ESTIMATING_SHARE * 1.1


def test_what_is_left_follows_what_was_measured(make_record, make_case):
    record = make_record(batch_size=1)
    case = make_case(batch_size=2, model="tiny")
    learned, fresh = Estimator(TimingPlan()), Estimator(TimingPlan())
    learned.learn(record)

    assert learned.seconds([case]) != fresh.seconds([case])
