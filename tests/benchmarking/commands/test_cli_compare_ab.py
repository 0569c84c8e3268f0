"""The gate from the command line, with launches that a script answers."""

from __future__ import annotations

import functools
import json
from xml.etree import ElementTree

import pytest

from benchmarking.gate import gate as gate_file
from benchmarking.gate.gate import Gate, GateRunError
from results.records.case import TimingPlan
from results.records.schema import SweepFile
from results.records.store import Store
from results.verdicts.gates import GateFile, read_gates

EIGHT = "compare --ab before.toml after.toml --pairs 8"


class Launches:
    """Stands for `launch`: a case takes as long as the script says of a side, by its name.

    What is no number of seconds is a status, or an error to raise.
    """

    def __init__(self, make_record):
        self.make_record, self.script, self.sources = make_record, {}, []
        self.stop_at = None  # the launch, from 1, at which a person presses Ctrl-C

    def __call__(self, source, place):
        self.sources.append(source)
        if len(self.sources) == self.stop_at:
            raise KeyboardInterrupt
        seconds = self.script.get(source.side.label, 1.0)
        if isinstance(seconds, BaseException):
            raise seconds
        sweep_id = f"sweep-{len(self.sources):03}"
        record = self.record(seconds, sweep_id=sweep_id)
        store = Store(place)
        store.write_sweep(
            SweepFile(
                sweep_id=sweep_id, definition_sha256="cd" * 32, command="sam-bench sweep",
                created_at="2026-01-02T03:04:00Z", plan=TimingPlan(), cases=(record.case,),
                environment=record.environment,
            )
        )  # fmt: skip
        store.write_record(record)
        return sweep_id

    def record(self, seconds, **changes):
        if isinstance(seconds, str):
            return self.make_record(seconds, **changes)
        measurement = self.make_record().measurement
        # Two launches never take the same.
        taken_s = seconds * (1 + 0.0001 * (len(self.sources) % 7))
        latency = measurement.latency.model_copy(update={"forward_s": (taken_s,) * 8})
        measured = measurement.with_passes(latency=latency)
        return self.make_record(measurement=measured, **changes)


@pytest.fixture
def launches(monkeypatch, make_record, tmp_path):
    """Two sweep files that are measured by a script."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    scripted = Launches(make_record)
    monkeypatch.setattr(gate_file, "Gate", functools.partial(Gate, measure=scripted))
    for name, attention in (("before", "reference"), ("after", "sdpa")):
        (tmp_path / f"{name}.toml").write_text(f'model = "tiny"\nattention = "{attention}"\n')
    return scripted


def accept(path, up_to):
    word = {
        "case": "tiny b2 64px", "up_to": up_to, "reason": "exact masks", "author": "Ada",
        "date": "2026-01-02",
    }  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"schema_version": 2, "accepted": [word]}))


# Verdicts


CODES = {1.1: 1, 1.0: 0, 0.9: 0, "crashed": 5}


@pytest.mark.parametrize(("head", "code"), CODES.items())
def test_the_exit_code_is_that_of_the_verdict(invoke, launches, head, code):
    launches.script = {"after.toml": head}
    result = invoke(EIGHT)

    assert result.exit_code == code, result.stderr


def test_a_gate_that_can_not_tell_ends_with_exit_code_3(invoke, launches):
    seconds = iter([1.0, 2.0] * 12)
    launches.record = lambda _, **changes: Launches.record(launches, next(seconds), **changes)
    result = invoke(f"{EIGHT} --order-seed 3")

    assert result.exit_code == 3, result.stderr


def test_the_table_tells_the_verdict_of_each_cell(invoke, launches):
    launches.script = {"after.toml": 1.1}
    result = invoke(EIGHT)

    assert "before.toml against after.toml: REGRESSED, 1 of 1 cells" in result.stdout
    assert "tiny b2 64px" in result.stdout
    assert result.stderr == ""


def test_each_pair_is_told_beside_the_table(invoke, launches):
    result = invoke(EIGHT)

    assert [f"[{pair}/8] " in result.stdout for pair in range(1, 9)] == [True] * 8


def test_json_is_the_gates_file(invoke, launches, tmp_path):
    result = invoke(f"{EIGHT} --format json")

    assert [GateFile.model_validate_json(result.stdout)] == read_gates(Store(tmp_path / "runs"), [])


def test_markdown_is_the_comment(invoke, launches):
    launches.script = {"after.toml": 1.1}
    result = invoke(f"{EIGHT} --format md")

    assert result.stdout.startswith("### sam-bench: REGRESSED, 1 of 1 cells\n")


@pytest.mark.parametrize("form", ["json", "md"])
def test_progress_goes_to_the_other_stream_where_a_program_reads(invoke, launches, form):
    result = invoke(f"{EIGHT} --format {form}")

    assert "[8/8] " in result.stderr
    assert "[8/8] " not in result.stdout


def test_a_gate_is_kept_in_the_store_that_is_named(invoke, launches, tmp_path):
    invoke(f"{EIGHT} --store elsewhere")

    assert len(read_gates(Store(tmp_path / "elsewhere"), [])) == 1
    assert not (tmp_path / "runs").exists()


def test_the_rule_and_the_seed_are_those_that_were_asked_for(invoke, launches, tmp_path):
    invoke(f"{EIGHT} --smallest 10% --margin 2.5% --order-seed 7")
    (gate,) = read_gates(Store(tmp_path / "runs"), [])

    assert (gate.rule.smallest, gate.rule.margin, gate.rule.looks) == (0.1, 0.025, (8,))
    assert gate.seed == 7


# What somebody has accepted


def test_what_the_file_of_acceptances_covers_does_not_fail(invoke, launches, tmp_path):
    launches.script = {"after.toml": 1.1}
    accept(tmp_path / "baselines" / "accepted.json", 1.2)
    result = invoke(EIGHT)

    assert result.exit_code == 0
    assert "REGRESSED (accepted)" in result.stdout
    assert "accepted by Ada: exact masks" in result.stdout


def test_another_file_of_acceptances_can_be_named(invoke, launches, tmp_path):
    launches.script = {"after.toml": 1.1}
    accept(tmp_path / "mine.json", 1.2)

    assert invoke(f"{EIGHT} --accepted mine.json").exit_code == 0


def test_a_broken_file_of_acceptances_is_a_mistake_before_any_launch(
    invoke, launches, mistake, tmp_path
):
    (tmp_path / "mine.json").write_text("{")
    line = mistake(invoke(f"{EIGHT} --accepted mine.json"))

    assert "mine.json': it is not JSON" in line
    assert launches.sources == []


# Files


def test_verdicts_are_written_into_files(invoke, launches, tmp_path):
    launches.script = {"after.toml": 1.1}
    invoke(f"{EIGHT} --junit a/gate.xml --json a/gate.json --markdown a/gate.md")
    suite = ElementTree.fromstring((tmp_path / "a" / "gate.xml").read_text())
    gate = GateFile.model_validate_json((tmp_path / "a" / "gate.json").read_text())

    assert suite.get("failures") == "1"
    assert gate.cells[0].verdict == "REGRESSED"
    assert "| REGRESSED | tiny b2 64px |" in (tmp_path / "a" / "gate.md").read_text()


@pytest.mark.parametrize("option", ["--junit", "--json", "--markdown"])
def test_a_file_that_can_not_be_written_is_one_line(invoke, launches, option):
    result = invoke(f"{EIGHT} {option} before.toml/gate")
    (error,) = result.stderr.splitlines()

    assert result.exit_code == 2
    assert error.startswith("Error: 'before.toml/gate' can't be written: ")
    assert error.endswith(". Name another file.")


@pytest.mark.parametrize("option", ["--junit", "--json", "--markdown"])
@pytest.mark.parametrize("path", ["/", ".", "a folder/"])
def test_a_folder_to_write_into_is_a_mistake_before_any_launch(
    invoke, launches, mistake, tmp_path, option, path
):
    (tmp_path / "a folder").mkdir()
    line = mistake(invoke(EIGHT, option, path))

    assert "is a directory" in line
    assert launches.sources == []


def test_a_file_without_a_name_is_one_line(invoke, launches):
    result = invoke(EIGHT, "--json", "")

    assert result.exit_code == 2
    assert result.stderr == "Error: A file to write must have a name, got an empty one.\n"


def test_the_comment_is_added_to_the_jobs_summary(invoke, launches, tmp_path, monkeypatch):
    path = tmp_path / "summary.md"
    path.write_text("of the step before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    invoke(EIGHT)

    assert path.read_text().startswith("of the step before\n### sam-bench: OK, 1 of 1 cells\n")


@pytest.mark.parametrize("head", [1.0, 1.1])
def test_a_summary_that_can_not_be_written_is_only_a_note(
    invoke, launches, tmp_path, monkeypatch, head
):
    launches.script = {"after.toml": head}
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = invoke(EIGHT)

    assert result.exit_code == CODES[head]
    assert result.stderr == "note: GITHUB_STEP_SUMMARY can't be written: Is a directory\n"


# What goes wrong


def test_a_first_launch_that_fails_is_one_line(invoke, launches, mistake):
    launches.script = {"after.toml": GateRunError("after.toml can't be measured: why")}

    assert mistake(invoke(EIGHT)) == "Error: after.toml can't be measured: why"


def test_ctrl_c_says_where_lies_what_was_measured(invoke, launches, tmp_path):
    launches.stop_at = 5
    result = invoke(EIGHT)
    (kept,) = (tmp_path / "runs" / "gates").iterdir()

    assert result.exit_code == 130
    assert result.stderr == (
        f"Interrupted. What was measured until then is kept in {kept}; it was not judged.\n"
    )


def test_ctrl_c_in_the_first_pair_says_that_nothing_is_kept(invoke, launches):
    launches.stop_at = 1
    result = invoke(EIGHT)

    assert result.exit_code == 130
    assert result.stderr == "Interrupted. No pair was measured.\n"
