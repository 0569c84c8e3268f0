"""The gate with scripted launches: the order of pairs, the looks, and what is written when."""

from __future__ import annotations

import pytest

from results.records.reading import read_file
from results.records.store import Store
from results.verdicts.decision import Rule
from results.verdicts.gates import GateFile, read_gates

SLOWER = {2: 1.1}


def noisy(number):
    """Every other launch takes twice as long."""
    return {2: 1.0 + number % 2}


# The order of launches


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_both_orders_occur_within_the_pairs(run_gate, seed):
    gate = run_gate(rule=Rule(looks=(20,)), seed=seed)

    assert {pair.is_head_first for pair in gate.pairs} == {False, True}


def test_the_order_follows_from_the_seed(run_gate):
    rule = Rule(looks=(20,))
    orders = [
        tuple(pair.is_head_first for pair in run_gate(rule=rule, seed=seed).pairs)
        for seed in (7, 7, 8)
    ]

    assert orders[0] == orders[1] != orders[2]


def test_sides_are_launched_in_the_order_that_is_written(make_gate):
    gate = make_gate()
    pairs = gate.run().pairs
    orders = [("head", "base") if pair.is_head_first else ("base", "head") for pair in pairs]

    assert gate.measure.made == [side for order in orders for side in order]


def test_each_side_has_a_store_of_its_own(make_gate):
    gate = make_gate()
    pairs = gate.run().pairs
    stores = [Store(gate.folder / side) for side in ("base", "head")]

    assert stores[0].sweep_ids() == sorted(pair.base_sweep_id for pair in pairs)
    assert stores[1].sweep_ids() == sorted(pair.head_sweep_id for pair in pairs)


# Looks and verdicts


VERDICTS = {
    "REGRESSED": ({2: 1.0}, {2: 1.1}),
    "IMPROVED": ({2: 1.0}, {2: 0.9}),
    "OK": ({2: 1.0}, {2: 1.0}),
    "INCONCLUSIVE": (noisy, lambda number: noisy(number + 1)),
}


@pytest.mark.parametrize(("verdict", "sides"), VERDICTS.items(), ids=VERDICTS)
def test_a_cell_is_judged_by_what_its_launches_took(run_gate, verdict, sides):
    (cell,) = run_gate(*sides).cells

    assert cell.verdict == verdict


def test_the_ratio_is_of_the_head_over_the_base(run_gate):
    (cell,) = run_gate({2: 2.0}, {2: 2.5}).cells

    assert cell.ratio == pytest.approx(1.25, rel=0.005)
    assert (cell.base_s, cell.head_s) == pytest.approx((2.0, 2.5), rel=0.005)
    assert cell.ratio_low < cell.ratio < cell.ratio_high


@pytest.mark.parametrize("head", [{2: 1.0}, SLOWER])
def test_a_gate_stops_at_the_first_look_where_all_is_decided(run_gate, head):
    gate = run_gate(head=head)

    assert len(gate.pairs) == 6
    assert gate.cells[0].decided_at == 6


def test_a_gate_goes_on_to_its_last_look_while_a_cell_is_open(run_gate):
    gate = run_gate(*VERDICTS["INCONCLUSIVE"])

    assert len(gate.pairs) == 12
    assert gate.cells[0].decided_at is None


def test_one_open_cell_keeps_the_gate_going_for_all(run_gate):
    gate = run_gate(
        lambda number: {1: 1.0, 2: noisy(number)[2]},
        lambda number: {1: 1.0, 2: noisy(number + 1)[2]},
    )

    assert [(cell.verdict, cell.decided_at) for cell in gate.cells] == [
        ("OK", 6), ("INCONCLUSIVE", None),
    ]  # fmt: skip
    assert [cell.pairs for cell in gate.cells] == [12, 12]


def test_what_was_decided_at_a_look_stays_decided(run_gate):
    gate = run_gate(
        lambda number: {1: 1.0, 2: noisy(number)[2]},
        lambda number: {1: 1.1 if number < 8 else 0.5, 2: noisy(number + 1)[2]},
        rule=Rule(alpha=0.05, looks=(8, 16)),
    )

    assert (gate.cells[0].verdict, gate.cells[0].decided_at) == ("REGRESSED", 8)
    assert len(gate.pairs) == 16


def test_a_regressed_cell_names_the_module_that_lost_the_time(run_gate):
    (module,) = run_gate({2: 1.0}, {2: 1.5}).cells[0].modules

    assert (module.module, module.kind) == ("blocks.0", "window")
    assert module.lost_s == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("head", [{2: 1.0}, {2: 0.5}])
def test_a_cell_that_is_not_slower_blames_no_module(run_gate, head):
    assert run_gate(head=head).cells[0].modules == ()


def test_most_cells_slower_together_are_noted_as_the_machines(run_gate):
    every = dict.fromkeys((1, 2, 4), 1.0)
    gate = run_gate(every, dict.fromkeys(every, 1.2))

    assert "100% of the cells became slower together: a machine-wide shift?" in gate.notes


def test_a_cell_has_what_the_machine_can_see_of_it(run_gate, environment):
    machine = environment.device_name("cpu")
    seen = {(machine, "tiny b2 64px"): 0.02, ("another", "tiny b4 64px"): 0.04}
    every = {2: 1.0, 4: 1.0}
    gate = run_gate(every, every, sees=seen)

    assert [cell.sees for cell in gate.cells] == [0.02, None]


@pytest.mark.parametrize(("sides", "are_same"), [(("a", "a"), True), (("a", "b"), False)])
def test_a_cell_tells_whether_both_sides_compute_the_same(
    run_gate, make_record, fake_device, sides, are_same
):
    case = make_record().case
    measured = fake_device.measurement_of(case)
    changes = {
        side: {
            "measurement": measured.model_copy(
                update={"output": measured.output.model_copy(update={"sha256": digest * 64})}
            )
        }
        for side, digest in zip(("base", "head"), sides, strict=True)
    }

    assert run_gate(changes=changes).cells[0].is_output_same is are_same


# What is written, and when


def test_the_gates_file_is_whole_after_each_pair(make_gate, make_watcher, store):
    seen = []

    def look(gate):
        kept = read_file(store.path / "gates" / gate.gate_id / "gate.json", GateFile)
        seen.append((len(kept.pairs), kept.cells[0].pairs, kept.is_finished))

    make_gate(watcher=make_watcher(look)).run()

    assert seen == [(number, number, False) for number in range(1, 7)]


def test_the_file_of_a_gate_at_its_end_is_what_it_gives(run_gate, store):
    gate = run_gate(head=SLOWER)
    problems = []

    assert read_gates(store, problems) == [gate]
    assert problems == []
    assert gate.is_finished


def test_two_gates_of_one_second_have_folders_of_their_own(run_gate, store):
    ids = {run_gate().gate_id, run_gate().gate_id, run_gate().gate_id}

    assert len(ids) == 3
    assert {path.name for path in (store.path / "gates").iterdir()} == ids


def test_a_gates_records_are_no_sweeps_of_the_store(run_gate, store):
    run_gate()

    assert store.sweep_ids() == []


def test_the_watcher_is_told_the_gates_story(make_gate, make_watcher):
    watcher = make_watcher()
    make_gate(*VERDICTS["INCONCLUSIVE"], watcher=watcher).run()
    looks = [each for each in watcher.told if each[0] == "look_ends"]
    pairs = [each for each in watcher.told if each[0] == "pair_ends"]

    assert looks == [("look_ends", 6, 12), ("look_ends", 12, None)]
    assert pairs == [("pair_ends", number, 6 if number <= 6 else 12) for number in range(1, 13)]
    assert watcher.told[-1] == ("end",)


def test_the_watcher_is_told_of_each_launch_before_it_begins(make_gate, make_watcher):
    watcher = make_watcher()
    gate = make_gate(watcher=watcher)
    gate.run()
    begun = [each[2] for each in watcher.told if each[0] == "launch_begins"]

    assert begun == gate.measure.made


def test_no_look_is_announced_where_all_is_decided(make_gate, make_watcher):
    watcher = make_watcher()
    make_gate(watcher=watcher).run()

    assert ("look_ends", 6, None) in watcher.told
