"""`sam-bench dashboard` as a person calls it: what it says, answers, refuses, and how it ends."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import click
import pytest
from click.testing import CliRunner

from dashboards.__main__ import main

SAM_BENCH = (str(Path(sys.executable).with_name("sam-bench")),)
DIRECTLY = (sys.executable, "-P", "-m", "dashboards")
LINE = re.compile(r"(\d+) cases at (http://127\.0\.0\.1:(\d+)/)  \(Ctrl-C ends it\)\n")
MISLEADING = {
    "HOST": "0.0.0.0", "PORT": "1", "DASH_DEBUG": "true", "DASH_HOST": "0.0.0.0",
    "DASH_PORT": "1", "DASH_URL_BASE_PATHNAME": "/elsewhere/", "DASH_APP_NAME": "other",
    "DASH_ASSETS_EXTERNAL_PATH": "https://evil.example/", "DASH_INCLUDE_ASSETS_FILES": "false",
    "DASH_SERVE_LOCALLY": "false", "DASH_COMPRESS": "true", "DASH_MCP_ENABLED": "true",
    "DASH_UI": "true", "DASH_PROPS_CHECK": "true", "DASH_HOT_RELOAD": "true",
    "DASH_PROXY": "http://evil.example::http://evil.example", "dash_url_base_pathname": "/x/",
    "FLASK_DEBUG": "1", "FLASK_ENV": "development",
}  # fmt: skip


@contextmanager
def started(*words, program=SAM_BENCH, folder, **environment):
    """The process, the address that it printed, and how many cases it has; ended by Ctrl-C."""
    process = subprocess.Popen(
        [*program, "dashboard", *map(str, words), "--port", "0"], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment,
        start_new_session=True,  # a terminal's: Ctrl-C reaches all of them
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        found = LINE.fullmatch(line)
        assert found, (line, process.stderr.read() if not line else "")
        yield process, found[2], int(found[1])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process):
    """What it leaves when a person presses Ctrl-C: the exit code, and all that it said."""
    os.killpg(process.pid, signal.SIGINT)
    said, complained = process.communicate(timeout=60)
    return process.returncode, said, complained


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """What a refusal says, in its one line; in this process, since nothing is served."""
    monkeypatch.chdir(tmp_path)

    def ask(*words):
        result = CliRunner().invoke(main, ["dashboard", *map(str, words)], prog_name="sam-bench")
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        (line,) = result.stderr.splitlines()
        return line

    yield ask
    gc.collect()  # waitress closes no socket that it could not bind


def text_of(address):
    with urlopen(address, timeout=60) as response:
        return response.read().decode()


@pytest.mark.parametrize("program", [SAM_BENCH, DIRECTLY], ids=["sam-bench", "dashboards"])
def test_it_says_where_answers_and_ends_with_ctrl_c(program, store, tmp_path):
    with started("runs", program=program, folder=tmp_path) as (process, address, count):
        assert count == len(store.read().records)
        assert "react-entry-point" in text_of(address)
        assert "/assets/pages.js" in text_of(address)

        assert ended(process) == (0, "", "")


def test_without_stores_it_shows_runs(store, tmp_path):
    with started(folder=tmp_path) as (_, _, count):
        assert count == len(store.read().records)


def test_ending_its_first_process_ends_all_of_it(store, tmp_path):
    with started("runs", folder=tmp_path) as (process, address, _):
        process.terminate()
        process.communicate(timeout=60)

        with pytest.raises(OSError, match="refused"):
            text_of(address)


def test_an_interrupt_of_its_first_process_alone_ends_all_of_it(store, tmp_path):
    with started("runs", folder=tmp_path) as (process, address, _):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

        assert process.returncode == 0
        with pytest.raises(OSError, match="refused"):
            text_of(address)


def test_ctrl_c_before_it_serves_ends_it_as_quietly(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gc, "freeze", lambda: signal.raise_signal(signal.SIGINT))

    result = CliRunner().invoke(main, ["dashboard", "runs", "--port", "0"])

    assert LINE.fullmatch(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_environment_changes_nothing(store, tmp_path):
    with started("runs", folder=tmp_path) as (_, address, _):
        plain = text_of(address)
    with started("runs", folder=tmp_path, **MISLEADING) as (_, address, _):
        misled = text_of(address)
        with pytest.raises(HTTPError, match="404"):
            text_of(f"{address}assets/nothing")

    unlike = re.compile(r'"end_id":"[^"]*"|m=?\d+(\.\d+)?')
    assert unlike.sub("", misled) == unlike.sub("", plain)


def test_records_that_are_written_meanwhile_are_shown(store, tmp_path):
    with started("runs", folder=tmp_path) as (_, address, _):
        before = text_of(f"{address}_dash-layout")
        shutil.copytree(store.path / store.sweep_ids()[0], store.path / "20270101-000000-broken")
        sweep = store.path / "20270101-000000-broken"
        for path in (sweep / "cases").iterdir():
            path.write_text(path.read_text().replace(store.sweep_ids()[0], sweep.name))

        assert text_of(f"{address}_dash-layout") != before


def test_an_empty_store_is_served_and_says_how_to_fill_it(tmp_path):
    (tmp_path / "empty").mkdir()
    with started("empty", folder=tmp_path) as (process, address, count):
        assert count == 0
        assert "react-entry-point" in text_of(address)
        code, _, complained = ended(process)

    assert (code, complained) == (0, "")


def test_what_was_passed_over_is_said_at_the_start(store, tmp_path):
    path = next((store.path / store.sweep_ids()[0] / "cases").iterdir())
    path.write_text("{")
    with started("runs", folder=tmp_path) as (process, _, count):
        _, _, complained = ended(process)

    assert count == len(store.read().records)
    (line,) = complained.splitlines()
    assert path.name in line


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_what_is_no_store_is_refused_and_stays_as_it_is(kind, refused, tmp_path):
    if kind == "file":
        (tmp_path / "other").write_text("mine")

    assert "'other'" in refused("other", "--port", 0)
    assert os.listdir(tmp_path) == (["other"] if kind == "file" else [])


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_port_that_is_taken_is_refused(refused, store):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        assert f"127.0.0.1:{port} can't be listened at" in refused("runs", "--port", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "127.evil.example", ""])
def test_other_machines_are_served_only_where_a_person_says_so(host, refused, store):
    assert "--allow-remote" in refused("runs", "--port", 0, "--host", host)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_host_that_is_none_is_refused(refused, store):
    words = ("--host", "no.such.host.invalid", "--allow-remote")

    assert "no.such.host.invalid" in refused("runs", "--port", 0, *words)


@pytest.mark.parametrize("name", ["dashboard", "report"])
def test_its_help_is_its_own(name):
    environment = os.environ | {"COLUMNS": "80"}
    shown, directly = (
        subprocess.run(
            [*program, name, "--help"], capture_output=True, text=True, env=environment, timeout=60
        )
        for program in (SAM_BENCH, DIRECTLY)
    )

    assert shown.returncode == directly.returncode == 0
    assert shown.stdout == directly.stdout
    assert shown.stdout.startswith(f"Usage: sam-bench {name} [OPTIONS]")
    assert f"sam-bench {name} " in shown.stdout.partition("Example:")[2]
    for each in main.commands[name].params:
        assert isinstance(each, click.Argument) or each.opts[0] in shown.stdout


def test_a_refusal_is_handed_on(tmp_path):
    command = [*SAM_BENCH, "dashboard", "nowhere"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert (said.returncode, said.stdout) == (2, "")
    assert len(said.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words", [["--nothing"], ["--port", "-1"], ["--port", "65536"]])
def test_an_option_that_is_wrong_is_refused(words):
    result = CliRunner().invoke(main, ["dashboard", *words])

    assert result.exit_code == 2
    assert words[0] in result.stderr
