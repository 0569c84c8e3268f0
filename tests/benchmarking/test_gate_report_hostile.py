"""What a gate says, whatever its texts are: comments of a size that is taken, and JUnit's XML."""

from __future__ import annotations

import html
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from benchmarking.views.gate_report import (
    FAILING,
    HEADINGS,
    MEANING,
    MOST_COMMENT_BYTES,
    comment,
    gate_findings,
    junit,
)
from results.tables.markdown import INVISIBLE
from results.verdicts.gates import Side

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_gates.py"))))
HOSTILE = {
    "end of a cell": "a | b || c \\| d \\",
    "backticks": "`a` ``` b",
    "lines": "a\nb\r\nc\rd\u2028e\x0bf\x85g",
    "rule": "\n| --- |\n# heading\n",
    "team": "@org/team and mail@example.org",
    "issue": "#1 org/repo#2 GH-3 gh-4",
    "end of details": "</details></summary>",
    "image": "<img src=x onerror=alert(1)> ![x](https://example.org/x.png)",
    "link": "[x](javascript:alert(1)) https://example.org www.example.org",
    "entity": "&commat;org/team &num;1 &#64;org &lt;img&gt;",
    "escapes": "\x1b[31mred\x1b]0;title\x07 \x9b2J",
    "NUL": "a\0b",
    "no character": "a\uffffb\u202ec",
    "empty": " ",
}
PLACES = ("label", "reason", "note", "side", "module", "acceptance")
FRAME = {"<details>", "<summary>", "</summary>", "</details>"}  # of the comment itself


def hostile_gate(text, place):
    """A gate that has one text of somebody else's."""
    return {
        "label": lambda: made.make_gate(
            made.make_cell("REGRESSED", 1.05, label=text), made.make_cell(label=text)
        ),
        "reason": lambda: made.make_gate(made.unmeasured("NOT_COMPARABLE", reason=text)),
        "note": lambda: made.make_gate(made.make_cell(), notes=(text,)),
        "side": lambda: made.make_gate(
            made.make_cell(), base=Side(label=text), head=Side(label=text)
        ),
        "module": lambda: made.make_gate(
            made.make_cell("REGRESSED", 1.05, modules=(made.make_module(text),))
        ),
        "acceptance": lambda: made.make_gate(
            made.make_cell("REGRESSED", accepted=made.make_acceptance(reason=text, author=text))
        ),
    }[place]()


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


@pytest.fixture(params=HOSTILE)
def text(request):
    return HOSTILE[request.param]


def test_hostile_text_ends_no_cell(text, place):
    told = comment(hostile_gate(text, place))

    assert {len(row) for row in made.rows_of(told)} == {len(HEADINGS)}


def test_hostile_text_begins_no_line(text, place):
    told, harmless = (comment(hostile_gate(each, place)) for each in (text, "x"))

    assert len(told.splitlines()) == len(harmless.splitlines())


def test_hostile_text_calls_nobody_and_names_no_issue(text, place):
    rendered = html.unescape(comment(hostile_gate(text, place)))

    assert not re.search(r"[@#]\w|(?i:gh-)\d", rendered)


def test_hostile_text_makes_no_tag_no_link_and_no_image(text, place):
    told = comment(hostile_gate(text, place))

    assert set(re.findall(r"<[^>]*>?", told)) <= FRAME
    assert not re.search(r"(?<!\\)(?:\]\(|\]\[|`)|\b(?:https?:|www\.)", told)


def test_hostile_text_drives_no_terminal(text, place):
    told = comment(hostile_gate(text, place)).replace(INVISIBLE, "")

    assert [char for char in told if not (char.isprintable() or char == "\n")] == []


def test_details_end_as_often_as_they_begin(text, place):
    told = comment(hostile_gate(text, place))

    assert told.count("<details>") == told.count("</details>")


# Sizes


@pytest.mark.parametrize("verdict", MEANING)
@pytest.mark.parametrize("label", ["vit_b b{} 1024px", "vit_b ü\N{SNOWMAN} b{}", "|@#<{}"])
def test_ten_thousand_cells_are_cut_to_what_is_said_to_be_shown(verdict, label):
    cells = [made.make_cell(verdict, label=label.format(i), reason="why") for i in range(10_000)]
    told = comment(made.make_gate(*cells))
    shown = len(made.rows_of(told))

    assert MOST_COMMENT_BYTES * 0.9 < len(told.encode()) <= MOST_COMMENT_BYTES
    assert f"\n{shown} of 10000 shown.\n" in told
    assert told.count("<details>") == told.count("</details>") == (verdict == "OK")
    assert told.endswith(f"\n{verdict}: {MEANING[verdict]}\n")


def test_what_needs_a_look_is_shown_before_what_is_ok():
    fine = [made.make_cell(label=str(number)) for number in range(10_000)]
    told = comment(made.make_gate(*fine, made.make_cell("REGRESSED", 1.05)))

    assert made.rows_of(told)[0][0] == "REGRESSED"


@pytest.mark.parametrize("char", ["x", "|"])
def test_a_text_of_a_megabyte_leaves_a_comment_that_is_taken(place, char):
    longest = 200 if place == "acceptance" else 2**20  # an author's name may be no longer
    told = comment(hostile_gate(char * longest, place))

    assert len(told.encode()) <= MOST_COMMENT_BYTES
    assert told.startswith("### sam-bench: ")


@pytest.mark.parametrize("place", ["note", "side"])
def test_a_comment_that_is_cut_says_so(place):
    told = comment(hostile_gate("x" * 2**20, place))

    assert told.endswith("\n\nCut: the whole is in the gate's own file.\n")


@pytest.mark.parametrize("place", ["label", "reason", "module"])
def test_a_cell_that_is_too_long_for_the_comment_is_said_to_be_left_out(place):
    told = comment(hostile_gate("x" * 2**20, place))

    assert "\n0 of 1 shown.\n" in told
    assert made.rows_of(told) == []


# JUnit


def test_junit_of_hostile_texts_is_well_formed(text, place):
    gate = hostile_gate(text, place)
    suite = ElementTree.fromstring(junit("gate", gate_findings(gate)))

    assert suite.get("tests") == str(len(suite)) == str(len(gate.cells))


@pytest.mark.parametrize("name", made.GATES)
def test_junit_counts_what_fails_and_what_is_unclear(name):
    findings = gate_findings(made.GATES[name]())
    suite = ElementTree.fromstring(junit("gate", findings))

    assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
    assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
    assert (suite.get("tests"), suite.get("errors")) == (str(len(findings)), "0")


OUTCOMES = {
    "REGRESSED": "failure", "FAILED": "failure", "DIFFERS": "failure",
    "NOT_COMPARABLE": "skipped", "CLOCK_DRIVEN": "skipped", "INCONCLUSIVE": "skipped",
    "IMPROVED": None, "OK": None,
}  # fmt: skip


def test_every_verdict_has_an_outcome():
    assert set(OUTCOMES) == {*MEANING, *FAILING}


@pytest.mark.parametrize(("verdict", "outcome"), OUTCOMES.items())
def test_junit_fails_what_fails_a_gate_and_skips_what_is_unclear(verdict, outcome):
    suite = ElementTree.fromstring(junit("gate", [("a case", verdict, "why")]))
    (case,) = suite

    assert (case.get("classname"), case.get("name")) == ("gate", "a case")
    assert [each.tag for each in case] == ([outcome] if outcome else [])
    assert [each.get("message") for each in case] == ([f"{verdict}: why"] if outcome else [])


def test_what_is_accepted_fails_nothing():
    cell = made.make_cell("REGRESSED", 1.05, accepted=made.make_acceptance())
    ((_, verdict, told),) = gate_findings(made.make_gate(cell))

    assert verdict == "OK"
    assert told == "+5.00 %, +4.00 .. +6.00 %; accepted by Ada: exact masks"


def test_junit_of_nothing_is_an_empty_suite():
    suite = ElementTree.fromstring(junit("gate", []))

    assert (suite.get("tests"), len(suite)) == ("0", 0)
