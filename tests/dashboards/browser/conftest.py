"""A real browser on pages that a real `sam-bench dashboard` serves.

Waiting is for conditions alone. Whatever a page does that nobody asked for fails its test: an error
or a warning on the console, a dialog, a request to elsewhere, an answer that refuses.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from results.records.store import Store

from .looking import PATIENCE_S, Look
from .stores import write_demonstration, write_hostile

SAM_BENCH = Path(sys.executable).with_name("sam-bench")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--enable-unsafe-swiftshader",
)  # fmt: skip
EMPTY = "/assets/style.css"  # of the same site: for another, even about:blank, compiled scripts go

expect.set_options(timeout=PATIENCE_S * 1e3)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        reason = "needs a chromium: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return browser_type_launch_args | {"executable_path": found, "args": list(FLAGS)}


@contextmanager
def serving(store, errors):
    """Run the command on a store until it is left; gives the pages' address.

    Args:
        store: A folder.
        errors: A file for what it says on stderr, where no traceback may stand.
    """
    command = [SAM_BENCH, "dashboard", store, "--port", "0"]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line + errors.read_text()
            yield found[0]
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # the command and the process that serves
    assert "Traceback" not in errors.read_text()


@pytest.fixture
def serve(tmp_path):
    """Serve a store of this test's own."""
    return lambda store: serving(store.path, tmp_path / "stderr")


@pytest.fixture(scope="session")
def shown_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    return write_demonstration(folder / "runs")


@pytest.fixture(scope="session")
def base_url(shown_store, tmp_path_factory):
    """Of pages on the demonstration, which all tests share."""
    with serving(shown_store.path, tmp_path_factory.mktemp("shown") / "stderr") as address:
        yield address


@pytest.fixture(scope="session")
def hostile_url(tmp_path_factory):
    """Of pages on records whose names are written to run scripts."""
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile(folder / "runs")
    with serving(folder / "runs", folder / "stderr") as address:
        yield address


@pytest.fixture
def own_store(tmp_path):
    """No records yet."""
    (tmp_path / "runs").mkdir()
    return Store(tmp_path / "runs")


@pytest.fixture
def good_record(shown_store):
    """One that can be written elsewhere."""
    return next(record for record in shown_store.read().records if record.status == "ok")


@pytest.fixture(scope="session")
def context(browser, browser_context_args):
    """One for all tests: with the pages' scripts compiled already, they load twice as fast."""
    with browser.new_context(**browser_context_args) as context:
        yield context


@pytest.fixture(scope="session")
def tab(context):
    return context.new_page()


@pytest.fixture
def page(tab):
    """The tab as if it were new; whatever a test leaves there is gone after it."""
    size = tab.viewport_size
    yield tab
    tab.goto(EMPTY)
    tab.evaluate("localStorage.clear(); sessionStorage.clear()")
    tab.mouse.move(0, 0)
    tab.set_viewport_size(size)
    tab.context.clear_permissions()


@pytest.fixture
def look(page):
    """A page, and what a person sees and does there."""
    seen = Look(page)
    yield seen
    seen.leave()
    assert not seen.troubles, "\n".join(seen.troubles)
