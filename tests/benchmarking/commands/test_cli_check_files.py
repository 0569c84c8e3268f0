"""Files that `sam-bench check` writes for a CI."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from benchmarking.views.gate_report import MOST_COMMENT_BYTES

CHECK = "check -m tiny -s 128 -b 1 --junit found.xml --json found.json --markdown found.md"
VARIANT = "reference 128px fp32"
HOSTILE = "a|b`\n# @org/team #1 GH-1 </details><img src=x>\x1b[31m"

pytestmark = pytest.mark.usefixtures("counted")


@pytest.fixture
def read(tmp_path):
    """The three files."""

    def files():
        texts = [(tmp_path / f"found.{form}").read_text() for form in ("xml", "json", "md")]
        return ElementTree.fromstring(texts[0]), json.loads(texts[1]), texts[2]

    return files


def test_files_of_a_check_that_fails_name_what_differs(expected, invoke, counted, read):
    counted["parameters"] = 2
    invoke(CHECK)
    suite, found, markdown = read()
    what, why = f"tiny {VARIANT} parameters", "expected 1, got 2"

    assert found == {"findings": [{"what": what, "verdict": "DIFFERS", "why": why}], "notes": []}
    assert markdown.splitlines()[-1] == f"| DIFFERS | {what} | {why} |"
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert suite.find("testcase/failure").get("message") == f"DIFFERS: {why}"


def test_files_of_a_check_that_is_as_expected_say_so(expected, invoke, read):
    invoke(CHECK)
    suite, found, markdown = read()

    assert found == {"findings": [], "notes": []}
    assert markdown == "### sam-bench check\n\nNothing differs from what is expected.\n"
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("1", "0", "0")


def test_files_of_a_check_with_nothing_to_compare_claim_no_success(invoke, read):
    invoke(CHECK)
    suite, found, markdown = read()

    assert "nothing is expected of tiny yet" in found["notes"][0]
    assert "nothing is expected of tiny yet" in markdown
    assert "Nothing differs" not in markdown
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")


def test_updating_what_is_expected_writes_no_findings(expected, tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == ["baselines"]


def test_github_shows_the_same_as_the_markdown_below_what_it_showed(
    expected, invoke, tmp_path, monkeypatch
):
    (tmp_path / "summary.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    invoke(CHECK)
    markdown = (tmp_path / "found.md").read_text()

    assert (tmp_path / "summary.md").read_text() == f"before\n{markdown}\n"


def test_a_summary_that_can_not_be_written_is_noted_and_the_verdict_counts(
    expected, invoke, tmp_path, monkeypatch, counted
):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    counted["flops"] = 3
    result = invoke(CHECK)

    assert result.exit_code == 1
    assert "note: GITHUB_STEP_SUMMARY can't be written: Is a directory\n" in result.stderr


@pytest.mark.parametrize("form", ["junit", "json", "markdown"])
@pytest.mark.parametrize("path", ["/", ".", "file/found"])
def test_a_file_that_can_not_be_written_is_one_line(expected, invoke, tmp_path, form, path):
    (tmp_path / "file").touch()
    result = invoke(f"check -m tiny -s 128 -b 1 --{form} {path}")
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]

    assert result.exit_code == 2
    assert len(errors) == 1
    assert path in errors[0]


def test_hostile_names_of_operations_end_no_cell_and_call_nobody(expected, invoke, counted, read):
    counted["operations"][HOSTILE] = 1
    invoke(CHECK)
    suite, _, markdown = read()

    assert "@org" not in markdown
    assert "<img" not in markdown
    assert "\x1b" not in markdown
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 3
    assert suite.get("failures") == "1"


def test_hostile_names_of_operations_drive_no_terminal(expected, invoke, counted):
    counted["operations"][HOSTILE] = 1

    assert "\x1b" not in invoke(CHECK).stdout


def test_markdown_of_ten_thousand_differences_is_of_a_size_that_is_taken(
    expected, invoke, counted, read
):
    counted["operations"].update({f"aten.operation_{number}": 1 for number in range(10_000)})
    invoke(CHECK)
    suite, found, markdown = read()

    assert len(markdown.encode()) <= MOST_COMMENT_BYTES
    assert suite.get("failures") == str(len(found["findings"])) == "10000"
    shown = sum(line.startswith("| DIFFERS ") for line in markdown.splitlines())
    assert markdown.endswith(f"\n{shown} of 10000 shown.\n")
