"""One launch of a side, in a process of its own: a script stands for Python and tells its words."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarking.gate import gate
from benchmarking.gate.gate import (
    LONGEST_REASON,
    GateRunError,
    SideSource,
    last_words,
    measure_side,
)
from results.records.store import Store
from results.verdicts.gates import Side

TOLD = "told.json"  # what a script was called with, in the folder that it ran in
# Stands for `python -P -m benchmarking.cli sweep ... --store STORE --fresh`.
PREAMBLE = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys, time
store = pathlib.Path(sys.argv[sys.argv.index("--store") + 1])

def sweep(name):
    (store / name / "cases").mkdir(parents=True)

told = {{"words": sys.argv[1:], "cwd": os.getcwd(), "path": os.environ["PYTHONPATH"]}}
pathlib.Path({TOLD!r}).write_text(json.dumps(told))
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "a store")


@pytest.fixture
def make_source(tmp_path):
    """Maker of a side whose Python does what a script says."""

    def make(script, *words):
        python = tmp_path / "python"
        python.write_text(PREAMBLE + script)
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        folder = tmp_path / "a folder"
        folder.mkdir(exist_ok=True)
        return SideSource(Side(label="main"), words, folder, str(python))

    return make


@pytest.fixture
def told(make_source, store):
    """What a launch with these words tells its Python."""

    def look(*words):
        source = make_source('sweep("first")', *words)
        measure_side(source, store.path)
        return json.loads((source.folder / TOLD).read_text())

    return look


@pytest.fixture
def failure(make_source, store):
    """The message of a launch whose script leaves no sweep."""

    def look(script):
        with pytest.raises(GateRunError) as caught:
            measure_side(make_source(script), store.path)
        return str(caught.value)

    return look


# What a launch is told


def test_a_launch_is_a_fresh_sweep_with_the_words_into_the_gates_store(told, store):
    assert told("--model", "tiny", "--batch-size", "1,2")["words"] == [
        "-P", "-m", "benchmarking.cli", "sweep", "--model", "tiny", "--batch-size", "1,2",
        "--store", str(store.path), "--fresh",
    ]  # fmt: skip


def test_words_reach_a_launch_as_they_are(told):
    words = ("--images", "a folder; rm -rf $HOME", "--module-pattern", "blocks\\.[0-9]*'\"")

    assert set(words) <= set(told(*words)["words"])


def test_a_launch_runs_in_the_folder_of_its_side(told, tmp_path):
    assert told()["cwd"] == str(tmp_path / "a folder")


OUTER = {None: [], "": [], "/elsewhere": ["/elsewhere"]}


@pytest.mark.parametrize(("outer", "rest"), OUTER.items())
def test_a_launch_imports_from_its_own_folder_first(told, tmp_path, monkeypatch, outer, rest):
    if outer is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", outer)

    assert told()["path"].split(os.pathsep) == [str(tmp_path / "a folder"), *rest]


def test_a_launch_reads_nothing_of_the_keyboard(make_source, store):
    measure_side(make_source('assert sys.stdin.read() == ""\nsweep("first")'), store.path)

    assert store.sweep_ids() == ["first"]


def test_a_launch_prints_nothing_on_the_gates_terminal(make_source, store, capfd):
    measure_side(
        make_source('print("a table")\nprint("a note", file=sys.stderr)\nsweep("a")'), store.path
    )

    assert capfd.readouterr() == ("", "")


# What it leaves


def test_a_launch_gives_the_sweep_that_it_left(make_source, store):
    first = measure_side(make_source('sweep("20260102-first")'), store.path)
    second = measure_side(make_source('sweep("20260103-second")'), store.path)

    assert (first, second) == ("20260102-first", "20260103-second")


def test_a_sweep_older_than_the_launch_is_not_taken_for_its_own(make_source, store):
    (store.path / "29990102-of-the-future" / "cases").mkdir(parents=True)

    assert measure_side(make_source('sweep("20260102-now")'), store.path) == "20260102-now"


def test_a_sweep_of_which_some_cases_failed_counts(make_source, store):
    assert measure_side(make_source('sweep("first")\nsys.exit(5)'), store.path) == "first"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 130])
def test_another_exit_code_is_a_launch_that_failed(failure, code):
    line = failure(f'sweep("first")\nprint("why", file=sys.stderr)\nsys.exit({code})')

    assert line == f"main can't be measured (exit code {code}): why"


def test_a_launch_that_is_killed_has_failed(failure):
    assert failure("os.kill(os.getpid(), signal.SIGKILL)") == (
        "main can't be measured (exit code -9): it said nothing"
    )


@pytest.mark.parametrize("code", [0, 5])
def test_a_launch_that_leaves_no_sweep_has_failed(failure, code):
    assert failure(f"sys.exit({code})") == (
        f"main can't be measured (exit code {code}): it said nothing"
    )


def test_a_launch_that_failed_says_its_last_words(failure):
    line = failure(
        'print("Traceback\\n  first\\nValueError: last\\n\\n", file=sys.stderr)\nexit(1)'
    )

    assert line.endswith(": ValueError: last")


def test_what_is_no_text_is_no_hindrance(failure):
    line = failure('sys.stderr.buffer.write(b"\\xff\\xfe bad\\n")\nsys.stderr.flush()\nexit(1)')

    assert line.endswith("\ufffd\ufffd bad")


def test_a_megabyte_of_complaint_does_not_stop_a_launch(failure):
    line = failure('print("x" * 2**20, file=sys.stderr)\nexit(1)')

    assert len(line) < LONGEST_REASON + 100


def test_a_python_that_is_not_there_is_a_launch_that_failed(tmp_path, store):
    source = SideSource(Side(label="main"), (), tmp_path, str(tmp_path / "nowhere" / "python"))

    with pytest.raises(GateRunError, match="main can't be measured"):
        measure_side(source, store.path)


WORDS = {
    "": "it said nothing",
    "\n \n": "it said nothing",
    "one": "one",
    "one\ntwo\n\n": "two",
    "  indented  ": "indented",
    "x" * 1000: "x" * LONGEST_REASON,
}


@pytest.mark.parametrize(("complaint", "last"), WORDS.items(), ids=range(len(WORDS)))
def test_last_words_are_the_last_line_that_says_something(complaint, last):
    assert last_words(complaint) == last


# Ctrl-C


INTERRUPTED = """
import sys
from pathlib import Path
from benchmarking.gate import gate
from results.verdicts.gates import Side

gate.GRACE_S = 0.1
side = gate.SideSource(Side(label="main"), (), Path.cwd(), sys.argv[1])
gate.measure_side(side, Path(sys.argv[2]))
"""
PATIENT = """
try:
    pathlib.Path("began").touch()
    time.sleep(600)
except KeyboardInterrupt:
    print("x" * 2**20, file=sys.stderr)  # more than a pipe holds
    pathlib.Path("stopped").touch()
    sys.exit(130)
"""


def test_ctrl_c_on_the_gate_alone_ends_its_launch_too(make_source, store, wait_until):
    source = make_source(PATIENT)
    root = Path(gate.__file__).parents[1]
    command = [sys.executable, "-c", INTERRUPTED, source.python, str(store.path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        command, cwd=source.folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until((source.folder / "began").exists)
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=60)
        finally:
            process.kill()  # where it hangs, this test is not to

    assert (source.folder / "stopped").exists()
    assert complaint.rstrip().endswith("KeyboardInterrupt")
