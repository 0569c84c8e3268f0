"""Which cases a shard has, decided of estimates alone: the same on every machine."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from benchmarking.fleet.scheduler import apportion, need_of, parse_shard, shard, worker_groups
from benchmarking.measuring.passes.table import default_passes
from benchmarking.sweeping.estimate import WORKER_START_S, case_seconds
from results.records.case import ANY, Case, TimingPlan

PLAN = TimingPlan(passes=default_passes())


def random_sweep(make_needy, seed) -> list[Case]:
    """Some of all combinations of some values, batch sizes ascending last."""
    chance = random.Random(seed)

    def some(*values):
        return chance.sample(values, chance.randint(1, len(values)))

    return [
        make_needy(need, model=model, precision=precision, input=source, batch_size=size)
        for need in some("L4", "L40S", "H200", ANY, "cpu")
        for model in some("tiny", "vit_b", "vit_h")
        for precision in some("fp32", "bf16")
        for source in some("images", "noise")
        for size in sorted(some(1, 4, 16, 32))
    ]


def shards(cases, count):
    return [shard(cases, PLAN, number, count) for number in range(1, count + 1)]


def seconds_of(cases):
    starts = len(worker_groups(cases)) * WORKER_START_S
    return starts + sum(case_seconds(case, PLAN) for case in cases)


COUNTS = (1, 2, 3, 8, 20)
SEEDS = range(8)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_case_is_in_exactly_one_shard(make_needy, seed, count):
    cases = random_sweep(make_needy, seed)
    found = [case for own in shards(cases, count) for case in own]

    assert len(found) == len(cases)
    assert set(found) == set(cases)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_shard_keeps_the_order_of_the_sweep(make_needy, seed, count):
    cases = random_sweep(make_needy, seed)
    place = {case: index for index, case in enumerate(cases)}
    for own in shards(cases, count):
        places = [place[case] for case in own]

        assert places == sorted(places)


def test_batch_sizes_of_a_shard_ascend(make_needy):
    sizes = (1, 2, 4, 8, 16, 32, 64)
    cases = [make_needy("L4", model="vit_h", image_size=1024, batch_size=size) for size in sizes]
    for own in shards(cases, 3):
        found = [case.batch_size for case in own]

        assert found
        assert found == sorted(found)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shard_holds_one_kind_where_there_are_shards_enough(make_needy, seed):
    cases = random_sweep(make_needy, seed)
    kinds = len({need_of(case) for case in cases})
    for count in (kinds, kinds + 1, 3 * kinds):
        for own in shards(cases, count):
            assert len({need_of(case) for case in own}) <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_kind_stays_in_one_shard_where_there_are_fewer_shards_than_kinds(make_needy, seed):
    cases = random_sweep(make_needy, seed)
    kinds = {need_of(case) for case in cases}
    for count in range(1, len(kinds)):
        holders = [need for own in shards(cases, count) for need in {need_of(case) for case in own}]

        assert sorted(holders) == sorted(kinds)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_has_a_shard_where_there_are_shards_enough(make_needy, seed):
    cases = random_sweep(make_needy, seed)
    kinds = {need_of(case) for case in cases}
    found = {need_of(case) for own in shards(cases, len(kinds)) for case in own}

    assert found == kinds


def test_a_family_stays_in_one_shard_where_it_is_no_longer_than_a_shard(make_needy):
    cases = [
        make_needy("L4", model=model, attention=attention, batch_size=size)
        for model in ("vit_b", "vit_l")
        for attention in ("reference", "sdpa", "fold", "flex")
        for size in (1, 2)
    ]
    found = shards(cases, 2)

    assert sum(len(worker_groups(own)) for own in found) == len(worker_groups(cases))


def test_a_family_that_is_longer_than_a_shard_is_divided(make_needy):
    cases = [make_needy("L4", batch_size=size) for size in range(1, 9)]

    assert [len(own) for own in shards(cases, 4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_longest_shard_is_about_a_fair_share_and_one_case_more(make_needy, seed):
    cases = random_sweep(make_needy, seed)
    count = 3 * len({need_of(case) for case in cases})
    longest_s = max(map(seconds_of, shards(cases, count)))
    fair_s = seconds_of(cases) / count

    assert longest_s <= 1.5 * (fair_s + max(seconds_of([case]) for case in cases))


def test_shards_of_many_equal_families_take_equally_long(make_needy):
    cases = [
        make_needy("L4", weights=f"{number}.pth", batch_size=size)
        for number in range(64)
        for size in (1, 4)
    ]
    times = list(map(seconds_of, shards(cases, 8)))

    assert max(times) == pytest.approx(min(times))


def test_kinds_have_shards_by_the_time_that_they_take(make_needy):
    sizes = {"L4": 90, "H200": 10}
    cases = [
        make_needy(kind, model="tiny", weights=f"{number}.pth")
        for kind, count in sizes.items()
        for number in range(count)
    ]
    kinds = [need_of(own[0]) for own in shards(cases, 10)]

    assert {kind: kinds.count(kind) for kind in sizes} == {"L4": 9, "H200": 1}


@pytest.mark.parametrize(
    "seconds", [{"H200": 2930, "L4": 603}, {"H200": 1, "L4": 99}, {"H200": 5, "L4": 5}]
)
def test_the_longest_shard_of_several_kinds_is_as_short_as_can_be(seconds):
    found = apportion(seconds, dict.fromkeys(seconds, 100), 10)
    longest = max(seconds[kind] / found[kind] for kind in seconds)
    ways = ({"H200": count, "L4": 10 - count} for count in range(1, 10))

    assert sum(found.values()) == 10
    assert longest == min(max(seconds[kind] / way[kind] for kind in seconds) for way in ways)


def test_of_more_shards_than_cases_some_are_empty(make_needy):
    cases = [make_needy("L4", batch_size=size) for size in (1, 2, 4)]
    found = shards(cases, 8)

    assert sorted(map(len, found)) == [0] * 5 + [1] * 3


def test_no_shard_is_empty_where_there_are_cases_enough(make_needy):
    long = make_needy("cpu", model="vit_h", image_size=1024, batch_size=8)
    short = [make_needy("H200", model="tiny", batch_size=size) for size in range(1, 13)]

    assert all(shards([long, *short], 6))


def test_the_only_shard_is_the_sweep(make_needy):
    cases = random_sweep(make_needy, 0)

    assert shard(cases, PLAN, 1, 1) == cases


def test_the_largest_number_of_shards_is_found_at_once(make_needy):
    cases = [make_needy("L4")]

    assert sum(len(shard(cases, PLAN, number, 99_999)) for number in (1, 2, 99_999)) == 1


ELSEWHERE = """
import json, sys
from benchmarking.fleet.scheduler import shard
from results.records.case import Case
from results.records.case import TimingPlan

plan = TimingPlan.model_validate_json(sys.argv[1])
cases = [Case(**fields) for fields in json.load(sys.stdin)]
found = [shard(cases, plan, number, 7) for number in range(1, 8)]
print(json.dumps([[case.case_id for case in own] for own in found]))
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_machine_finds_the_same_shards(make_needy, hash_seed):
    cases = random_sweep(make_needy, 3)
    told = subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE, PLAN.model_dump_json()],
        input=json.dumps([case.model_dump() for case in cases]),
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(told.stdout) == [[case.case_id for case in own] for own in shards(cases, 7)]


# What a person types


@pytest.mark.parametrize(
    ("text", "answer"),
    [("1/1", (1, 1)), ("2/8", (2, 8)), ("8/8", (8, 8)), ("99999/99999", (99_999, 99_999))],
)
def test_a_shard_is_one_of_so_many(text, answer):
    assert parse_shard(text) == answer


NO_SHARDS = [
    "9/8", "0/8", "0/0", "1/0", "a/b", "2", "", "/", "2/", "/8", "2/8/3", "-1/8", "+1/8", "1.0/8",
    " 1/8", "1/8 ", "1/8\n", "\uff12/\uff18", "1/100000", "9" * 10_000 + "/8", "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_SHARDS, ids=ascii)
def test_what_is_no_shard_is_refused_with_what_came(refusal, text):
    line = refusal(parse_shard, text)

    assert line.startswith("--shard must be one of so many, from 1/N to N/N such as 2/8, got '")
