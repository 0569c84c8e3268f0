"""The gate where launches fail, cases fail, sides can't be compared, or a person stops it."""

from __future__ import annotations

import pytest

from benchmarking.gate.gate import GateError, GateRunError, exit_code
from results.records.reading import read_file
from results.verdicts.decision import Rule
from results.verdicts.gates import GateFile, read_gates

FINE = {2: 1.0}
EIGHT = Rule(alpha=0.05, looks=(8,))
FAILURE = GateRunError("it can't be measured (exit code 1): why")


def failing(*numbers):
    """A side of which these launches leave nothing."""
    return lambda number: FAILURE if number in numbers else FINE


# Launches


@pytest.mark.parametrize("sides", [(FAILURE, FINE), (FINE, FAILURE)])
def test_a_launch_that_fails_in_the_first_pair_is_told_at_once(make_gate, sides):
    gate = make_gate(*sides)
    with pytest.raises(GateRunError, match="why"):
        gate.run()

    assert len(gate.measure.made) <= 2


@pytest.mark.parametrize("side", [0, 1])
def test_a_launch_that_fails_later_costs_its_pair_alone(run_gate, side):
    sides = [FINE, FINE]
    sides[side] = failing(3)
    gate = run_gate(*sides, rule=EIGHT)

    assert len(gate.pairs) == 8
    assert (gate.cells[0].pairs, gate.cells[0].verdict) == (7, "OK")


def test_a_pair_names_the_side_that_left_nothing(run_gate):
    pairs = run_gate(head=failing(3), rule=EIGHT).pairs
    nameless = [number for number, pair in enumerate(pairs) if pair.head_sweep_id is None]

    assert nameless == [3]
    assert None not in [pair.base_sweep_id for pair in pairs]


def test_three_failures_one_after_another_end_the_gate(make_gate):
    gate = make_gate(failing(3, 4), failing(3, 4))
    with pytest.raises(GateRunError, match="why"):
        gate.run()

    assert len(gate.measure.made) == 2 * 3 + 3


def test_a_head_that_fails_ever_again_ends_the_gate(make_gate):
    gate = make_gate(head=failing(*range(2, 12)), rule=Rule(looks=(12,)))
    with pytest.raises(GateRunError, match="why"):
        gate.run()

    assert gate.measure.made.count("head") == 2 + 3


def test_two_failures_one_after_another_do_not_end_the_gate(run_gate):
    gate = run_gate(failing(3), failing(3), rule=EIGHT)

    assert gate.cells[0].pairs == 7


def test_failures_far_apart_do_not_end_the_gate(run_gate):
    gate = run_gate(head=failing(1, 3, 5, 7), rule=Rule(looks=(12,)))

    assert gate.cells[0].pairs == 8


def test_what_was_measured_before_launches_failed_is_kept(make_gate, store):
    with pytest.raises(GateRunError):
        make_gate(failing(3, 4), failing(3, 4)).run()
    (kept,) = read_gates(store, [])

    assert (len(kept.pairs), kept.cells[0].pairs, kept.is_finished) == (4, 3, False)


@pytest.mark.parametrize("end", [FAILURE, KeyboardInterrupt(), RuntimeError("a defect")])
def test_the_watcher_is_ended_whatever_happens(make_gate, make_watcher, end):
    watcher = make_watcher()
    with pytest.raises(type(end)):
        make_gate(head=end, watcher=watcher).run()

    assert watcher.told[-1] == ("end",)


# Cases


@pytest.mark.parametrize("status", ["oom", "crashed", "invalid", "timeout", "unsupported"])
def test_a_cell_that_fails_on_the_head_alone_is_failed(run_gate, status):
    gate = run_gate({1: 1.0, 2: 1.0}, {1: 1.0, 2: status})

    assert [cell.verdict for cell in gate.cells] == ["OK", "FAILED"]
    assert gate.cells[1].reason == f"head is {status}: why it is {status}"
    assert exit_code(gate) == 5


@pytest.mark.parametrize("head", ["oom", 1.0])
def test_a_cell_that_fails_on_the_base_is_not_comparable(run_gate, head):
    gate = run_gate({1: 1.0, 2: "oom"}, {1: 1.0, 2: head})

    assert [cell.verdict for cell in gate.cells] == ["OK", "NOT_COMPARABLE"]
    assert gate.cells[1].reason == "base is oom: why it is oom"
    assert exit_code(gate) == 4


def test_a_cell_that_fails_on_the_head_at_times_is_judged_by_the_other_pairs(run_gate):
    gate = run_gate(head=lambda number: {2: "crashed" if number in (2, 5) else 1.1}, rule=EIGHT)

    assert (gate.cells[0].verdict, gate.cells[0].pairs) == ("REGRESSED", 6)


def test_a_case_without_a_record_is_said_to_be_not_run(make_gate):
    def forgetful(launches):
        def launch(source, place):
            sweep_id = launches(source, place)
            if source.side.label == "head":
                next((place / sweep_id / "cases").iterdir()).unlink()
            return sweep_id

        return launch

    (cell,) = make_gate(wrap=forgetful).run().cells

    assert (cell.verdict, cell.reason) == ("FAILED", "head is not_run: no reason was given")


# Sides that can't be compared


def rewritten(side, old, new):
    """Wraps launches: of one side the sweep's own file is another afterwards."""

    def wrap(launches):
        def launch(source, place):
            sweep_id = launches(source, place)
            if source.side.label == side:
                path = place / sweep_id / "sweep.json"
                path.write_text(path.read_text().replace(old, new))
            return sweep_id

        return launch

    return wrap


BROKEN = {
    "an older version": ('"schema_version":3', '"schema_version":1', "schema_version is 1"),
    "a newer version": ('"schema_version":3', '"schema_version":999', "schema_version is 999"),
    "another form": ('"cases":', '"cells":', "cases"),
    "no JSON": ("{", "", "it is not JSON"),
}


@pytest.mark.parametrize("side", ["base", "head"])
@pytest.mark.parametrize(("old", "new", "reason"), BROKEN.values(), ids=BROKEN)
def test_records_that_this_version_can_not_read_are_a_clear_error(
    make_gate, refusal, side, old, new, reason
):
    line = refusal(make_gate(wrap=rewritten(side, old, new)).run)

    assert line.startswith(f"What {side} measured can't be read: ")
    assert reason in line
    assert line.endswith("Compare versions that keep the same form of records.")


def test_sides_without_a_case_in_common_are_refused(make_gate, refusal):
    line = refusal(make_gate({1: 1.0, 2: 1.0}, {4: 1.0, 8: 1.0}).run)

    assert line.startswith("base and head have no case in common: ")


def test_sides_without_a_case_in_common_are_refused_after_one_pair(make_gate):
    gate = make_gate({1: 1.0}, {4: 1.0})
    with pytest.raises(GateError):
        gate.run()

    assert len(gate.measure.made) == 2


# Ctrl-C


def interrupted_at(number):
    return lambda own: KeyboardInterrupt() if own == number else FINE


def test_ctrl_c_keeps_the_pairs_that_were_measured(make_gate, store):
    gate = make_gate(head=interrupted_at(3))
    with pytest.raises(KeyboardInterrupt):
        gate.run()
    kept = read_file(gate.folder / "gate.json", GateFile)

    assert (len(kept.pairs), kept.cells[0].pairs, kept.is_finished) == (3, 3, False)


def test_a_gate_that_was_stopped_has_judged_nothing(make_gate):
    gate = make_gate({2: 1.0}, lambda own: KeyboardInterrupt() if own == 3 else {2: 2.0})
    with pytest.raises(KeyboardInterrupt):
        gate.run()

    assert gate.gate.cells[0].verdict == "INCONCLUSIVE"


def test_ctrl_c_in_the_first_pair_leaves_no_gate(make_gate, store):
    with pytest.raises(KeyboardInterrupt):
        make_gate(head=interrupted_at(0)).run()

    assert read_gates(store, []) == []
