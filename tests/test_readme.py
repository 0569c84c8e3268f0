"""The README's commands are typed here, in their order, in a folder of their own."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarking.choices.inputs import SAMPLE_IMAGES
from benchmarking.cli import main
from benchmarking.commands.baseline import baseline
from benchmarking.commands.store import store
from sam.families import MODELS
from sam.family import OfficialCheckpoint

ROOT = Path(__file__).parents[1]
SAM_BENCH = str(Path(sys.executable).with_name("sam-bench"))
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
NEEDS_NETWORK = "sam-bench download vit_b"
STAYS_OPEN = "sam-bench dashboard demo"
JUDGES = "sam-bench compare --ab main . -m vit_b -b 1,8"  # for an hour; a small one is tested
OWN_TESTS = (NEEDS_NETWORK, STAYS_OPEN, JUDGES)
HASTY = ROOT / "tests" / "hasty.py"  # stands for the program in what would take long
LONG = ("quickstart", "plan", "sweep", "doctor --", "capacity", "demo", "masks", "onnx", "check")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photographs").mkdir()
    for name in ("chelsea.jpg", "rocket.jpg"):
        with Image.open(SAMPLE_IMAGES / name) as photograph:
            photograph.resize((120, 80)).save(folder / "photographs" / name)
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "path").mkdir()
    shutil.copy(HASTY, folder / "path")
    return folder


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_a_make_command_of_the_readme_has_its_target(command):
    dry_run = [*shlex.split(command), "--dry-run"]

    assert subprocess.run(dry_run, cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "command",
    [line for line in COMMANDS if line.startswith("sam-bench ") and line not in OWN_TESTS],
)
def test_a_command_of_the_readme_works(command, folder):
    is_long = command.removeprefix("sam-bench ").startswith(LONG)
    start = [sys.executable, "-P", "-m", HASTY.stem] if is_long else [SAM_BENCH]
    typed = [*start, *shlex.split(command)[1:]]
    here = {**os.environ, "PYTHONPATH": str(folder / "path")}
    answer = subprocess.run(
        typed, cwd=folder, env=here, capture_output=True, text=True, timeout=600
    )

    assert answer.returncode == 0, answer.stderr


def test_the_dashboard_of_the_readme_shows_the_demonstration(folder):
    typed = [SAM_BENCH, *shlex.split(STAYS_OPEN)[1:], "--port", "0"]
    with subprocess.Popen(typed, cwd=folder, stdout=subprocess.PIPE, text=True) as pages:
        try:
            address = pages.stdout.readline().split(" at ")[1].split()[0]
            answer = urlopen(address).read().decode()
        finally:
            pages.send_signal(signal.SIGINT)

    assert STAYS_OPEN in COMMANDS
    assert "<title>sam-bench</title>" in answer
    assert pages.returncode == 0


def test_the_gate_of_the_readme_can_be_typed():
    command, *words = shlex.split(JUDGES)[1:]

    assert JUDGES in COMMANDS
    with main.commands[command].make_context(command, words) as context:
        assert context.params["is_gate"]


def test_the_download_of_the_readme_works(tmp_path, monkeypatch):
    content = b"in place of 375 MB"
    official = OfficialCheckpoint(
        "sam_vit_b_01ec64.pth", len(content), hashlib.sha256(content).hexdigest(), ""
    )
    monkeypatch.setitem(MODELS, "vit_b", replace(MODELS["vit_b"], checkpoint=official))
    (tmp_path / official.filename).write_bytes(content)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        mirror = ["--base-url", f"http://127.0.0.1:{server.server_port}", "-o", tmp_path / "own"]
        typed = [*shlex.split(NEEDS_NETWORK)[1:], *map(str, mirror)]
        answer = CliRunner().invoke(main, typed)
        server.shutdown()

    assert NEEDS_NETWORK in COMMANDS
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "own" / official.filename).read_bytes() == content


def test_every_kind_of_line_in_the_readme_s_shell_blocks_is_tested():
    untested = [line for line in COMMANDS if not line.startswith(("make ", "sam-bench ", "git "))]

    assert untested == []


@pytest.mark.parametrize(
    "name",
    [
        *main.commands,
        *(f"store {name}" for name in store.commands),
        *(f"baseline {name}" for name in baseline.commands),
    ],
)
def test_every_command_stands_in_the_readme(name):
    assert f"sam-bench {name}" in README
