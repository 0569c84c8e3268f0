"""The report opens from a disk: it draws its figures, and asks nobody for anything."""

from __future__ import annotations

import subprocess

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from dashboards.offline import REPORTED

from .conftest import SAM_BENCH
from .looking import Look


@pytest.fixture(scope="session")
def report_file(shown_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "out.html"
    command = [SAM_BENCH, "report", path, shown_store.path]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def opened(context, report_file):
    """With all figures drawn, which is when they come near."""
    look = Look(context.new_page())
    look.page.goto(report_file.as_uri())
    for place in look.page.locator(".plot").all():
        place.scroll_into_view_if_needed()
        expect(place.locator(".main-svg").first).to_be_visible()
    yield look
    look.page.close()
    assert not look.troubles, "\n".join(look.troubles)


def test_it_draws_its_figures_and_asks_nobody(opened, report_file):
    drawn = opened.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.plot')].map(
          (plot) => [plot.id.replace('plot-', ''), plot._fullData.length]))"""
    )

    assert set(drawn) == set(REPORTED)
    assert all(drawn.values())
    assert opened.asked == [report_file.as_uri()]


def test_nothing_of_it_is_offered_to_a_cloud(opened):
    assert opened.page.locator(".modebar-btn").count() > 3
    expect(opened.page.locator(".modebar-btn[data-title*='Share']")).to_have_count(0)


def test_everybody_can_use_it(opened):
    found = Axe().run(opened.page)

    assert found.violations_count == 0, found.generate_report()
