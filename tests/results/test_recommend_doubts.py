"""How sure a recommendation is: each doubt appears when it should, and decides the confidence."""

from __future__ import annotations

import numpy as np
import pytest

from results.answers.recommend import Requirements, recommend
from results.records.schema import Check
from results.tables.frames import case_frame

EARLIER = "2024-01-01T00:00:00Z"
WARNED = {"spread": Check(value=1.0, limit="a limit", verdict="warn")}
SPREAD_MS = tuple(np.linspace(18, 22, 12))  # of a batch of two
MADE_UP = "its record is made up, for a demonstration"
TOO_FEW = "5 forwards are too few for an interval"
ALONE = "no other way was measured"
OVERLAP = "the runner-up may be as fast: their intervals overlap"
DIFFER = "it was measured 2 times, which differ by over 5 %"
ONCE = "one sweep measured it"
WARNS = "some of its self-checks warn"
TORCHES = "ways were measured with several versions of torch"
LARGER = "no larger batch was measured, and one may be faster"


@pytest.fixture
def judge(timed):
    """What is recommended of records that leave no doubt; names change one of them, None omits it.

    best: The fastest, of two images.
    again: The same, measured earlier.
    smaller, larger: The same way, of one and of four images.
    other: Another way.
    """

    def find(**changes):
        records = {
            "best": {"image_ms": 10, "size": 2},
            "again": {"image_ms": 10.1, "size": 2, "sweep_id": "before", "started_at": EARLIER},
            "smaller": {"image_ms": 12, "size": 1},
            "larger": {"image_ms": 11, "size": 4},
            "other": {"image_ms": 20, "size": 2, "attention": "sdpa"},
        }
        assert set(changes) <= set(records)
        wanted = {name: changes.get(name, {}) for name in records}
        made = [timed(**records[name] | each) for name, each in wanted.items() if each is not None]
        return recommend(case_frame(made), Requirements("vit_b", precisions=("bf16",)))

    return find


@pytest.fixture
def newer(environment):
    """With another torch."""
    return {"environment": environment.model_copy(update={"torch": "2.16.0"})}


GRAVE = {
    "few forwards": ({"best": {"n": 5}}, TOO_FEW),
    "no other way": ({"other": None}, ALONE),
    "slower before": ({"again": {"image_ms": 10.51}}, DIFFER),
    "faster before": ({"again": {"image_ms": 9.5}}, DIFFER),
}
SLIGHT = {
    "intervals overlap": (
        {"best": {"forward_ms": SPREAD_MS}, "other": {"image_ms": 10.3}},
        OVERLAP,
    ),
    "measured once": ({"again": None}, ONCE),
    "the fastest's checks warn": ({"best": {"checks": WARNED}}, WARNS),
    "a larger batch's checks warn, that is the fastest": (
        {"smaller": {"image_ms": 10.2}, "again": {"size": 1}, "best": {"checks": WARNED}},
        WARNS,
    ),
    "the recommended's checks warn": (
        {"smaller": {"image_ms": 10.2, "checks": WARNED}, "again": {"size": 1}},
        WARNS,
    ),
    "the largest is still gaining": ({"larger": None}, LARGER),
    "one batch size": ({"larger": None, "smaller": None}, LARGER),
    "the larger is the best": ({"best": {"size": 4}, "again": {"size": 4}, "larger": None}, LARGER),
}
NONE = {
    "as it is": {},
    "before within 5 %": {"again": {"image_ms": 10.49}},
    "a larger batch gains less than 5 %": {
        "smaller": {"image_ms": 10.4},
        "again": {"size": 1},
        "larger": None,
    },
    "six forwards": {"best": {"n": 6}},
    "a case that is neither warns": {"larger": {"checks": WARNED}, "other": {"checks": WARNED}},
    "apart, however near": {"other": {"image_ms": 10.01}},
    "the runner-up has no interval": {"other": {"n": 5}},
    "checks that pass": {
        "best": {"checks": {"spread": WARNED["spread"].model_copy(update={"verdict": "pass"})}}
    },
}


@pytest.mark.parametrize("changes", NONE.values(), ids=NONE)
def test_without_a_doubt_the_confidence_is_high(judge, changes):
    found = judge(**changes)

    assert (found.grave, found.slight) == ((), ())
    assert found.confidence == "high"


@pytest.mark.parametrize(("changes", "doubt"), GRAVE.values(), ids=GRAVE)
def test_a_grave_doubt_appears_alone_and_the_confidence_is_low(judge, changes, doubt):
    found = judge(**changes)

    assert (found.grave, found.slight) == ((doubt,), ())
    assert found.confidence == "low"


@pytest.mark.parametrize(("changes", "doubt"), SLIGHT.values(), ids=SLIGHT)
def test_a_slight_doubt_appears_alone_and_the_confidence_is_medium(judge, changes, doubt):
    found = judge(**changes)

    assert (found.grave, found.slight) == ((), (doubt,))
    assert found.confidence == "medium"


@pytest.mark.parametrize("name", ["best", "smaller", "larger", "other"])
def test_several_versions_of_torch_are_a_slight_doubt(judge, newer, name):
    found = judge(**{name: newer})

    assert (found.grave, found.slight) == ((), (TORCHES,))


def test_the_torch_of_what_was_measured_again_since_is_no_doubt(judge, newer):
    assert judge(again=newer).confidence == "high"


def test_a_grave_doubt_beside_a_slight_one_decides(judge):
    found = judge(other=None, again=None)

    assert (found.grave, found.slight) == ((ALONE,), (ONCE,))
    assert found.confidence == "low"


def test_where_everything_is_in_doubt_each_doubt_is_told_once(judge, newer):
    made_up = {"is_synthetic": True}
    best = made_up | {"n": 5, "checks": WARNED}
    other = made_up | newer | {"image_ms": 10.0}
    found = judge(best=best, again=None, smaller=made_up, larger=None, other=other)

    assert found.grave == (MADE_UP, TOO_FEW)
    assert found.slight == (OVERLAP, ONCE, WARNS, TORCHES, LARGER)


@pytest.mark.parametrize("name", ["best", "again", "smaller", "larger", "other"])
def test_what_was_made_up_counts_for_nothing_beside_what_was_measured(judge, name):
    found = judge(**{name: {"is_synthetic": True}})

    assert MADE_UP not in found.grave
    assert not found.row["is_synthetic"]


def test_what_was_made_up_alone_is_a_grave_doubt(judge):
    made_up = {"is_synthetic": True}
    names = ("best", "again", "smaller", "larger", "other")

    assert judge(**dict.fromkeys(names, made_up)).grave == (MADE_UP,)


def test_of_one_sweep_two_records_are_once(timed):
    again = timed(10.1, started_at=EARLIER, size=2)
    records = [timed(10, 2), again, timed(20, 2, attention="sdpa"), timed(11, 4)]

    assert (
        ONCE in recommend(case_frame(records), Requirements("vit_b", precisions=("bf16",))).slight
    )
