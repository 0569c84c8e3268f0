"""Stores that tell a case differently: the better record is kept, and no content is lost."""

from __future__ import annotations

import itertools
import random

import pytest

from results.records import merge as merge_file
from results.records.merge import CONFLICTS, merge
from results.records.schema import SweepEnd
from results.records.store import StoreError
from results.tables.index import refresh

from .merging import (
    ANSWERS,
    FAILURES,
    OTHER_SWEEP,
    content_of,
    files,
    place_of,
    put,
    set_aside,
)

BROKEN = {"empty": b"", "half": b'{"schema_version": 2, ', "no UTF-8": b"\xff\xfe"}


# What stores tell differently


def test_of_two_answers_the_first_is_kept_and_the_other_lies_among_the_conflicts(
    store_of, target, make_record
):
    first, second = make_record(wall_s=1.0), make_record(wall_s=2.0)
    sources = [store_of(first), store_of(second)]
    merged = merge(sources, target)
    (told,) = merged.conflicts

    assert target.read().records == [first]
    assert set_aside(target) == {place_of(first): content_of(second)}
    assert told.startswith(f"{place_of(first)}: '{sources[1].path}' tells it differently")
    assert str(target.path / CONFLICTS) in told
    assert "\n" not in told
    assert (merged.copied, merged.same, merged.replaced) == (2, 1, 0)


def test_of_three_answers_all_are_kept(store_of, target, make_record):
    records = [make_record(wall_s=wall_s) for wall_s in (1.0, 2.0, 3.0)]
    merged = merge([store_of(record) for record in records], target)

    assert target.read().records == records[:1]
    assert len(merged.conflicts) == 2
    assert {content_of(record) for record in records} <= set(files(target).values())


def test_an_answer_of_the_target_is_kept_before_one_of_a_source(store_of, target, make_record):
    old, new = make_record(wall_s=1.0), make_record(wall_s=2.0)
    store_of(old, store=target)
    merged = merge([store_of(new)], target)

    assert target.read().records == [old]
    assert set_aside(target) == {place_of(new): content_of(new)}
    assert len(merged.conflicts) == 1


def test_what_was_set_aside_before_comes_along(store_of, new_store, make_record):
    records = [make_record(wall_s=wall_s) for wall_s in (1.0, 2.0, 3.0)]
    both, all_three = new_store(), new_store()
    merge([store_of(record) for record in records[:2]], both)
    merge([both, store_of(records[2])], all_three)

    assert {content_of(record) for record in records} <= set(files(all_three).values())


def test_what_is_replaced_is_set_aside_first(
    store_of, target, make_failure, make_record, monkeypatch
):
    """Where that can't be written, the old file stays."""
    old = make_failure("crashed")
    store_of(old, store=target)
    write = merge_file.write_whole

    def full(path, content):
        if CONFLICTS in path.parts:
            raise StoreError("no room")
        write(path, content)

    monkeypatch.setattr(merge_file, "write_whole", full)
    with pytest.raises(StoreError, match="no room"):
        merge([store_of(make_record())], target)

    assert files(target)[place_of(old)] == content_of(old)


@pytest.mark.parametrize("status", ["skipped", "unsupported"])
@pytest.mark.parametrize("is_first", [True, False])
def test_what_was_measured_replaces_what_was_not_tried(
    store_of, target, make_record, make_failure, status, is_first
):
    answer, other = make_record(), make_failure(status)
    records = [answer, other] if is_first else [other, answer]
    merged = merge([store_of(record) for record in records], target)

    assert target.read().records == [answer]
    assert merged.conflicts == []


@pytest.mark.parametrize("is_first", [True, False])
def test_of_what_a_sweep_said_at_its_ends_the_last_is_kept(
    store_of, target, make_record, sweep, is_first
):
    ends = [
        SweepEnd(
            sweep_id=sweep.sweep_id, ended_at=f"2026-01-0{day}T00:00:00Z", planned=1, statuses={},
            wall_s=1.0, measured_s=1.0,
        )
        for day in (1, 2)
    ]  # fmt: skip
    sources = [store_of(make_record()) for _ in ends]
    for source, end in zip(sources, ends if is_first else ends[::-1], strict=True):
        source.write_end(end)
    merged = merge(sources, target)

    assert target.read_end(sweep.sweep_id) == ends[1]
    assert merged.conflicts == []


def test_conflicts_are_no_sweep_of_the_target(store_of, target, make_record, sweep):
    merge([store_of(make_record(wall_s=wall_s)) for wall_s in (1.0, 2.0)], target)

    assert target.sweep_ids() == [sweep.sweep_id]
    assert len(target.read().records) == len(refresh(target).frames["cases"]) == 1
    assert target.read().problems == []


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("failure", FAILURES)
def test_an_answer_replaces_what_would_be_tried_again_whichever_comes_first(
    store_of, target, made, failure, answer, is_first
):
    good, bad = made(answer), made(failure)
    merged = merge([store_of(each) for each in ((good, bad) if is_first else (bad, good))], target)

    assert target.read().records == [good]
    assert set_aside(target) == {place_of(bad): content_of(bad)}
    assert (merged.replaced, merged.conflicts) == (1, [])


def test_of_two_failures_the_first_is_kept_and_the_other_is_named(store_of, target, make_failure):
    first, second = make_failure("crashed"), make_failure("timeout")
    merged = merge([store_of(first), store_of(second)], target)

    assert target.read().records == [first]
    assert set_aside(target) == {place_of(second): content_of(second)}
    assert len(merged.conflicts) == 1


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("status", ["ok", "crashed"])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_record_that_can_be_used_replaces_a_broken_one_whichever_comes_first(
    store_of, target, made, content, status, is_first
):
    good = made(status)
    broken, whole = store_of(), store_of(good)
    put(broken, place_of(good), content)
    merged = merge([whole, broken] if is_first else [broken, whole], target)

    assert target.read().records == [good]
    assert set_aside(target) == {place_of(good): content}
    assert merged.conflicts == []


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_of_one_store_alone_comes_as_it_is(store_of, target, make_record, content):
    source = store_of()
    put(source, place_of(make_record()), content)
    merge([source], target)

    assert files(target) == files(source)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("worse", ["half", "rebuilt"])
def test_the_whole_plan_wins_over_one_that_is_broken_or_was_rebuilt(
    store_of, target, sweep, make_record, worse, is_first
):
    whole, other = store_of(make_record()), store_of(make_record())
    rebuilt = sweep.model_copy(update={"definition_sha256": "abcdef"})
    put(
        other,
        f"{sweep.sweep_id}/sweep.json",
        content_of(rebuilt)[: 50 if worse == "half" else None],
    )
    merged = merge([other, whole] if is_first else [whole, other], target)

    assert target.read().sweeps == [sweep]
    assert merged.conflicts == []


@pytest.mark.parametrize(
    "place", ["hardware.toml", "roofs/0123.json", f"{OTHER_SWEEP}/traces/0.json.gz"]
)
def test_of_two_other_files_that_differ_the_first_is_kept_and_the_other_is_named(
    store_of, target, place
):
    sources = [store_of(), store_of()]
    for source, content in zip(sources, (b"first", b"second"), strict=True):
        put(source, place, content)
    merged = merge(sources, target)

    assert files(target)[place] == b"first"
    assert set_aside(target) == {place: b"second"}
    assert merged.conflicts[0].startswith(f"{place}: ")


@pytest.mark.parametrize("statuses", list(itertools.product(("ok", "oom", "crashed"), repeat=2)))
def test_merging_twice_changes_nothing(store_of, target, made, statuses):
    sources = [
        store_of(made(status, wall_s=float(wall_s))) for wall_s, status in enumerate(statuses)
    ]
    merge(sources, target)
    before = files(target)
    again = merge(sources, target)

    assert files(target) == before
    assert again.copied == 0


# Nothing is lost


def random_content(chance, made, place):
    """What one of several stores may hold at a place; None where it holds nothing there."""
    kind = chance.choice(["nothing", "broken", "crashed", "timeout", "oom", "ok", "ok"])
    if kind == "nothing":
        return None
    if not place.startswith("record"):
        return chance.choice([b"", b"first", b"second"])
    if kind == "broken":
        return chance.choice([b"", b"{", b"\xff"])
    record = made(kind, batch_size=int(place[-1]), wall_s=float(chance.randrange(3)))
    return content_of(record)


def fill_at_random(store, chance, made):
    sweep_ids = ("20250102-030405-abcdef", OTHER_SWEEP)
    for sweep_id in sweep_ids:
        places = {f"record {size}": f"{sweep_id}/cases/{size}.json" for size in (1, 2, 4)}
        places |= {name: f"{sweep_id}/{name}" for name in ("sweep.json", "end.json")}
        places["trace"] = f"{sweep_id}/traces/1.json.gz"
        places["peaks"] = "hardware.toml"
        for name, place in places.items():
            content = random_content(chance, made, name)
            if content is not None:
                put(store, place, content)
    put(store, f"{sweep_ids[0]}/sweep.json", b"a plan")
    return store


def rank(content, made):
    """Of a record's content, how good it is: 2 an answer, 1 one to be tried again, 0 broken."""
    if len(content) < 10:
        return 0
    failed = any(f'"status":"{status}"'.encode() in content for status in FAILURES)
    return 1 if failed else 2


@pytest.mark.parametrize("seed", range(20))
def test_every_content_of_every_store_is_somewhere_in_the_target(new_store, made, seed):
    chance = random.Random(seed)
    target, *sources = (fill_at_random(new_store(), chance, made) for _ in range(4))
    before = [*files(target).values(), *(each for s in sources for each in files(s).values())]
    merge(sources, target)

    assert set(before) <= set(files(target).values())


@pytest.mark.parametrize("seed", range(20))
def test_of_every_record_none_is_better_than_the_one_that_is_kept(new_store, made, seed):
    chance = random.Random(seed)
    target, *sources = (fill_at_random(new_store(), chance, made) for _ in range(4))
    told = [files(store) for store in (target, *sources)]
    merge(sources, target)
    records = {place for each in told for place in each if "/cases/" in place}

    assert len(records) > 3
    for place in records:
        offered = [each[place] for each in told if place in each]
        best = max(rank(content, made) for content in offered)
        first = next(content for content in offered if rank(content, made) == best)
        assert files(target)[place] == first


@pytest.mark.parametrize("seed", range(10))
def test_any_stores_merged_twice_change_nothing(new_store, made, seed):
    chance = random.Random(seed)
    target, *sources = (fill_at_random(new_store(), chance, made) for _ in range(4))
    merge(sources, target)
    before = files(target)
    merge(sources, target)

    assert files(target) == before
