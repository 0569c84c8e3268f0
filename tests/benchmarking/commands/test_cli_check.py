"""`sam-bench check`: facts beside those that are expected."""

from __future__ import annotations

import json

import pytest

from benchmarking.machine import environment as environment_file

CHECK = "check -m tiny -s 128 -b 1,2 --attention reference,sdpa"
ONE = "reference 128px fp32"  # a variant
OWN_ENCODER = """
from torch import nn

def make():
    return nn.Conv2d(3, 4, 16, 16)
"""


@pytest.fixture(scope="module")
def counted():
    """Counts in a process, for true; the same again is remembered."""
    told = {}
    ask = environment_file.ask

    def remembered(*words, **options):
        if words not in told:
            told[words] = ask(*words, **options)
        return told[words]

    return remembered


@pytest.fixture(autouse=True)
def counted_once(monkeypatch, counted):
    monkeypatch.setattr(environment_file, "ask", counted)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def expected(invoke, tmp_path):
    """The file of what is expected of the tiny model, as it was just found."""
    assert invoke(f"{CHECK} --update-expected").exit_code == 0
    return tmp_path / "baselines" / "facts" / "tiny.json"


@pytest.fixture
def edit(expected):
    """Change what is expected, by a function that changes the content."""

    def change(function):
        content = json.loads(expected.read_text())
        function(content)
        expected.write_text(json.dumps(content))

    return change


@pytest.fixture
def differing(invoke, tmp_path):
    """Check, which must fail; give what differs by its name."""

    def check(line=CHECK):
        result = invoke(f"{line} --json found.json")
        assert result.exit_code == 1, result.stderr
        findings = json.loads((tmp_path / "found.json").read_text())["findings"]
        assert {each["verdict"] for each in findings} == {"DIFFERS"}
        return {each["what"]: each["why"] for each in findings}

    return check


# Nothing is expected


def test_where_nothing_is_expected_it_is_said_how_to_write_it(invoke):
    result = invoke(CHECK)

    assert result.exit_code == 4
    assert result.stderr == "note: nothing is expected of tiny yet: --update-expected\n"
    assert result.stdout.endswith("there is nothing to compare them with\n")


def test_a_check_writes_nothing_that_is_expected(invoke, tmp_path):
    invoke(CHECK)

    assert list(tmp_path.iterdir()) == []


def test_what_is_found_is_written_where_it_is_asked_for(invoke, tmp_path):
    result = invoke(f"{CHECK} --update-expected --baselines mine")
    content = json.loads((tmp_path / "mine" / "facts" / "tiny.json").read_text())

    assert result.exit_code == 0
    assert result.stdout == "Expected from now on: mine/facts/tiny.json\n"
    assert sorted(content["variants"]) == ["reference 128px fp32", "sdpa 128px fp32"]
    assert content["planned_cases"] == 4


def test_writing_the_same_again_changes_no_byte(invoke, expected):
    before = expected.read_bytes()
    invoke(f"{CHECK} --update-expected")

    assert expected.read_bytes() == before


def test_a_model_of_which_nothing_is_expected_is_named_beside_one_that_is_as_expected(
    invoke, expected, tmp_path
):
    (tmp_path / "own_to_check.py").write_text(OWN_ENCODER)
    result = invoke(f"{CHECK} --encoder own_to_check:make")

    assert result.exit_code == 4
    assert "nothing is expected of own_to_check:make yet" in result.stderr


def test_facts_of_an_encoder_of_ones_own_can_be_expected(invoke, tmp_path):
    (tmp_path / "own_to_check.py").write_text(OWN_ENCODER)
    line = "check --encoder own_to_check:make -s 128 -b 1"

    assert invoke(f"{line} --update-expected").exit_code == 0
    assert invoke(line).exit_code == 0


def test_an_encoder_that_can_not_be_counted_is_one_line(invoke, mistake):
    line = mistake(invoke("check --encoder gone_to_check:make -s 128 -b 1"))

    assert "gone_to_check" in line


# As expected, or not


def test_what_is_as_expected_is_said_to_be(invoke, expected):
    result = invoke(CHECK)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "1 models, 2 variants: as expected\n"


def add_one(*path):
    def change(content):
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] += 1

    return change


NUMBERS = {
    "parameters": ("parameters",),
    "weights_bytes": ("weights_bytes",),
    "flops": ("flops",),
    "least_flops": ("least_flops",),
    "output_shape": ("output_shape", 0),
    "operations aten.softmax.int": ("operations", "aten.softmax.int"),
    "graph_breaks": ("graph_breaks",),
    "output": ("output", 0),
}


@pytest.mark.parametrize(("fact", "path"), NUMBERS.items())
def test_a_changed_number_is_the_one_thing_that_differs(edit, differing, fact, path):
    edit(add_one("variants", ONE, *path))

    assert list(differing()) == [f"tiny {ONE} {fact}"]


def test_what_differs_is_told_with_what_was_expected(invoke, edit, expected):
    parameters = json.loads(expected.read_text())["variants"][ONE]["parameters"]
    edit(add_one("variants", ONE, "parameters"))
    result = invoke(CHECK)
    row = next(line for line in result.stdout.splitlines() if "parameters" in line)

    assert f" {parameters + 1} " in row
    assert f" {parameters} " in row
    assert result.stdout.endswith("1 models, 2 variants: 1 facts differ\n")


def test_an_operation_that_nobody_expected_differs(edit, differing):
    edit(lambda content: content["variants"][ONE]["operations"].pop("aten.softmax.int"))

    assert differing() == {f"tiny {ONE} operations aten.softmax.int": "expected 0, got 4"}


def test_an_output_that_differs_in_its_last_digits_does_not_differ(invoke, edit):
    def change(content):
        content["variants"][ONE]["output"][0] *= 1 + 1e-10

    edit(change)

    assert invoke(CHECK).exit_code == 0


def test_a_variant_that_is_expected_and_missing_differs(edit, differing):
    edit(lambda content: content["variants"].update(more=content["variants"][ONE]))

    assert differing() == {"tiny more variant": "expected there, got missing"}


def test_a_variant_that_nobody_expected_differs(edit, differing):
    edit(lambda content: content["variants"].pop(ONE))

    assert differing() == {f"tiny {ONE} variant": "expected missing, got there"}


def test_another_number_of_planned_cases_differs(expected, differing):
    line = CHECK.replace("-b 1,2", "-b 1,2,4")

    assert differing(line) == {"tiny planned cases": "expected 4, got 6"}


def test_what_another_torch_counts_otherwise_is_noted_and_does_not_differ(invoke, edit):
    def change(content):
        content["torch"] = "2.1.0"
        content["variants"][ONE]["operations"]["aten.softmax.int"] = 1

    edit(change)
    result = invoke(CHECK)

    assert result.exit_code == 0
    assert result.stderr.startswith("note: tiny: operations and graph breaks were not compared")


def test_parameters_differ_whatever_torch_counted_them(edit, differing):
    edit(lambda content: content.update(torch="2.1.0"))
    edit(add_one("variants", ONE, "parameters"))

    assert list(differing()) == [f"tiny {ONE} parameters"]


def test_what_differed_is_expected_once_it_is_updated(invoke, edit):
    edit(add_one("variants", ONE, "parameters"))
    invoke(f"{CHECK} --update-expected")

    assert invoke(CHECK).exit_code == 0


# Files that can't be used

BROKEN = {
    "empty": "",
    "no JSON": "<!DOCTYPE html>",
    "a list": "[]",
    "no variants": '{"model": "tiny", "torch": "2", "planned_cases": 1}',
    "version 999": '{"model": "tiny", "schema_version": 999}',
    "nested": "[" * 200_000,
    "endless number": '{"planned_cases": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_can_not_be_used_is_one_line_and_can_be_written_again(
    invoke, expected, mistake, content
):
    expected.write_text(content)
    line = mistake(invoke(CHECK))
    invoke(f"{CHECK} --update-expected")

    assert line.startswith("Error: What is expected of tiny can't be used: ")
    assert line.endswith(". Write it again with --update-expected.")
    assert invoke(CHECK).exit_code == 0


@pytest.mark.parametrize("value", ["NaN", "-1", '"many"', "Infinity", "1.5"])
def test_a_number_that_can_not_be_is_one_line(invoke, expected, mistake, value):
    expected.write_text(
        expected.read_text().replace('"planned_cases": 4', f'"planned_cases": {value}')
    )

    assert "can't be used" in mistake(invoke(CHECK))


def test_a_folder_that_is_a_file_can_not_be_written(invoke, tmp_path, mistake):
    (tmp_path / "file").write_text("precious")
    mistake(invoke(f"{CHECK} --update-expected --baselines file"))

    assert (tmp_path / "file").read_text() == "precious"
