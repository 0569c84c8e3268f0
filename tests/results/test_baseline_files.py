"""Baselines and accepted regressions on disk."""

from __future__ import annotations

import json

import pytest

from results.records.store import StoreError
from results.verdicts.baselines import (
    ACCEPTED,
    Baseline,
    BaselineError,
    Session,
    accept,
    read_accepted,
    read_baseline,
    write_baseline,
)
from results.verdicts.gates import Acceptance

BASELINE = Baseline(
    name="l4",
    fingerprint={"torch": "2.15.0", "gpu": 'NVIDIA "L4"'},
    sessions=(
        Session(sweep_id="s1", started_at="2025-01-01", commit="0" * 40),
        Session(sweep_id="s2", started_at="2025-01-02", commit=None),
    ),
    cases={"vit_l b1": {"s2": 0.25, "s1": 0.125}, "vit_b b1": {"s1": 0.1}, 'naïve | "b1"': {}},
)
EMPTY = Baseline(name="new", fingerprint={}, sessions=(), cases={})


def word(case="vit_b b1 1024px", **changes):
    fields = {"up_to": 1.06, "reason": "exact masks", "author": "Ada", "date": "2025-01-02"}
    return Acceptance(case=case, **fields | changes)


# Baselines


@pytest.mark.parametrize("baseline", [BASELINE, EMPTY], ids=["full", "empty"])
def test_a_baseline_is_read_as_it_was_written(tmp_path, baseline):
    path = write_baseline(tmp_path, baseline)

    assert path == tmp_path / f"{baseline.name}.json"
    assert read_baseline(tmp_path, baseline.name) == baseline


@pytest.mark.parametrize("baseline", [BASELINE, EMPTY], ids=["full", "empty"])
def test_a_baseline_s_file_is_plain_json(tmp_path, baseline):
    text = write_baseline(tmp_path, baseline).read_text()

    assert json.loads(text) == baseline.model_dump(mode="json")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text.endswith("}\n")


def test_a_baseline_s_file_has_a_line_a_case_and_a_line_a_session_in_order(tmp_path):
    lines = write_baseline(tmp_path, BASELINE).read_text().splitlines()

    assert lines == [
        "{",
        ' "cases": {',
        '  "na\\u00efve | \\"b1\\"": {},',
        '  "vit_b b1": {"s1": 0.1},',
        '  "vit_l b1": {"s1": 0.125, "s2": 0.25}',
        " },",
        ' "fingerprint": {',
        '  "gpu": "NVIDIA \\"L4\\"",',
        '  "torch": "2.15.0"',
        " },",
        ' "name": "l4",',
        ' "schema_version": 3,',
        ' "sessions": [',
        f'  {{"commit": "{"0" * 40}", "started_at": "2025-01-01", "sweep_id": "s1"}},',
        '  {"commit": null, "started_at": "2025-01-02", "sweep_id": "s2"}',
        " ]",
        "}",
    ]


def test_the_same_content_again_writes_the_same_bytes(tmp_path):
    text = write_baseline(tmp_path, BASELINE).read_bytes()
    backwards = BASELINE.model_copy(
        update={
            "cases": dict(reversed(BASELINE.cases.items())),
            "fingerprint": dict(reversed(BASELINE.fingerprint.items())),
        }
    )

    assert write_baseline(tmp_path, backwards).read_bytes() == text
    assert write_baseline(tmp_path, read_baseline(tmp_path, "l4")).read_bytes() == text


def test_a_case_more_is_a_line_more(tmp_path):
    before = write_baseline(tmp_path, BASELINE).read_text().splitlines()
    more = BASELINE.model_copy(update={"cases": BASELINE.cases | {"vit_b b2": {"s1": 0.5}}})
    after = write_baseline(tmp_path, more).read_text().splitlines()

    assert [line for line in after if line not in before] == ['  "vit_b b2": {"s1": 0.5},']
    assert [line for line in before if line not in after] == []


def test_a_baseline_that_is_not_there_tells_how_to_save_one(tmp_path):
    with pytest.raises(
        BaselineError, match=r"l4\.json': there is no such file: save one with: sam"
    ):
        read_baseline(tmp_path, "l4")


def changed(**changes):
    return lambda text: json.dumps(json.loads(text) | changes)


BROKEN = {
    "half of it": (lambda text: text[: len(text) // 2], "it is not JSON"),
    "nothing": (lambda text: "", "it is not JSON"),
    "a list": (lambda text: "[]", "schema_version is None"),
    "another version": (changed(schema_version=99), "schema_version is 99"),
    "an unknown field": (changed(extra=1), "extra"),
    "a name that leaves the folder": (changed(name="../l4"), "name"),
    "a time as text": (lambda text: text.replace("0.125", '"0.125"'), "cases"),
    "a time below zero": (lambda text: text.replace("0.125", "-0.125"), "cases"),
    "no time": (lambda text: text.replace("0.125", "0.0"), "cases"),
    "no number": (lambda text: text.replace("0.125", "NaN"), "NaN is not a number"),
    "endless": (lambda text: text.replace("0.125", "1e999"), "cases"),
    "a case twice": (lambda text: text.replace("vit_l b1", "vit_b b1"), "a key stands twice"),
    "a conflict of git's": (lambda text: f"<<<<<<< HEAD\n{text}", "it is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_baseline_is_one_clear_error(tmp_path, broken, reason):
    path = write_baseline(tmp_path, BASELINE)
    path.write_text(broken(path.read_text()))

    with pytest.raises(BaselineError, match=reason) as caught:
        read_baseline(tmp_path, "l4")
    assert str(caught.value).startswith(f"'{path}': ")
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_baseline_is_one_clear_error(tmp_path):
    (tmp_path / "l4.json").mkdir()

    with pytest.raises(BaselineError, match="it is not a regular file"):
        read_baseline(tmp_path, "l4")


def test_a_baseline_that_can_not_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / "file").write_text("here")

    with pytest.raises(StoreError, match="can't be written"):
        write_baseline(tmp_path / "file", BASELINE)
    assert (tmp_path / "file").read_text() == "here"


# What may be slower


def test_without_a_file_nothing_may_be_slower(tmp_path):
    assert read_accepted(tmp_path / ACCEPTED) == ()


def test_what_was_accepted_is_read_in_its_order(tmp_path):
    path, words = tmp_path / ACCEPTED, (word(), word("b", up_to=2.0), word(reason='ï "q" \\ \n'))
    for each in words:
        accept(path, each)

    assert read_accepted(path) == words


def test_what_is_accepted_is_a_line_more(tmp_path):
    path = tmp_path / ACCEPTED
    accept(path, word())
    before = [line.rstrip(",") for line in path.read_text().splitlines()]
    accept(path, word("another"))
    after = [line.rstrip(",") for line in path.read_text().splitlines()]

    assert len(after) == len(before) + 1
    assert [line for line in after if "another" not in line] == before
    assert json.loads(path.read_text())["schema_version"] == 3


@pytest.mark.parametrize(
    "refused", [{"reason": ""}, {"author": ""}, {"up_to": 0}, {"up_to": float("inf")}, {"extra": 1}]
)
def test_a_word_without_sense_is_refused(refused):
    with pytest.raises(ValueError, match=next(iter(refused))):
        word(**refused)


BROKEN_WORDS = {
    "not JSON": ("accepted", "it is not JSON"),
    "no version": ("{}", "schema_version is None"),
    "no list": ('{"schema_version": 2, "accepted": {}}', "accepted"),
    "a word of no reason": (
        '{"schema_version": 2, "accepted": [{"case": "a", "up_to": 1.5}]}', "accepted.0.reason",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BROKEN_WORDS.values(), ids=BROKEN_WORDS)
def test_a_broken_file_of_words_is_one_clear_error(tmp_path, text, reason):
    path = tmp_path / ACCEPTED
    path.write_text(text)

    with pytest.raises(BaselineError, match=reason):
        read_accepted(path)


def test_a_broken_file_of_words_is_not_written_over(tmp_path):
    path = tmp_path / ACCEPTED
    path.write_text("mine")

    with pytest.raises(BaselineError, match="it is not JSON"):
        accept(path, word())
    assert path.read_text() == "mine"
