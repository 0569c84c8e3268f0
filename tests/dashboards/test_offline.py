"""The report: one page that needs no network, and in which anybody's text stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from dashboards.data import Data
from dashboards.figures import FIGURES
from dashboards.offline import OPEN_ROWS, REPORTED, TABLED, report
from dashboards.tables import TABLES
from dashboards.view import ViewState

OF_ONE_RECORD = {"samples", "telemetry"}
BREAKOUT = "</script><script>alert(1)</script>"
LOADING = {"src", "href", "srcset", "data", "action", "poster"}
FIGURE = re.compile(r"^figures\['plot-(\w+)'\] = (\{.*\});$", re.DOTALL)
OWN_SCRIPTS = 3  # plotly's, where figures are kept, and what draws them


class Page(HTMLParser):
    """Tags with their attributes, in their order, and the text of scripts and of all else."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # every tag is closed where it must be

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)

    def count(self, tag):
        return [each for each, _ in self.tags].count(tag)

    def of(self, tag):
        return [attributes for each, attributes in self.tags if each == tag]

    def figures(self):
        found = [match for script in self.scripts[1:] if (match := FIGURE.search(script))]
        return {match[1]: json.loads(match[2]) for match in found}


@pytest.fixture(scope="module")
def written(demo_view):
    return report(demo_view, "A title", ["a note"])


@pytest.fixture(scope="module")
def parsed(written):
    return Page(written)


@pytest.fixture(scope="module")
def broken_into(records, make_view):
    """Of records whose GPU and model are named to break out of the page."""
    evil = []
    for record in records:
        gpu = record.gpu.model_copy(update={"name": record.gpu.name + BREAKOUT})
        machine = record.environment.model_copy(update={"gpus": (gpu,)})
        case = record.case.model_copy(update={"model": record.case.model + BREAKOUT})
        named = {"environment": machine, "case": case, "case_id": case.case_id}
        evil.append(record.model_copy(update=named))
    return Page(report(make_view(evil), BREAKOUT, [BREAKOUT]))


def test_a_browser_loads_nothing_from_elsewhere(parsed):
    asked = [
        value
        for _, attributes in parsed.tags
        for name, value in attributes.items()
        if name in LOADING
    ]

    assert asked  # links within the page
    assert all(value.startswith("#") for value in asked)


def test_no_style_loads_anything(written):
    style = written.partition("<style>")[2].partition("</style>")[0]

    assert "{" in style
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_is_in_english(parsed):
    assert parsed.of("html") == [{"lang": "en"}]


@pytest.mark.parametrize("tag", ["h1", "main", "title", "nav"])
def test_the_page_has_one_of_it(parsed, tag):
    assert parsed.count(tag) == 1


def test_the_title_stands_in_the_tab_and_on_the_page(parsed):
    assert parsed.words.count("A title") == 2


def test_notes_stand_on_the_page(parsed):
    assert "a note" in parsed.words


@pytest.mark.parametrize("name", [*REPORTED, *TABLED])
def test_every_figure_and_table_has_a_section_that_a_link_leads_to(parsed, name):
    assert {"id": name} in parsed.of("section")
    assert {"href": f"#{name}"} in parsed.of("a")


def test_no_two_parts_of_the_page_have_the_same_id(parsed):
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", REPORTED)
def test_every_figure_can_be_read_and_has_its_place(parsed, name):
    assert parsed.figures()[name]["data"]
    assert f"plot-{name}" in [attributes.get("id") for attributes in parsed.of("div")]


@pytest.mark.parametrize("name", REPORTED)
def test_every_picture_says_what_it_is_to_who_does_not_see_it(parsed, name):
    (picture,) = [each for each in parsed.of("div") if each.get("id") == f"plot-{name}"]

    assert picture["role"] == "group"
    assert picture["aria-label"]


def test_all_cases_stand_in_a_table(parsed, records):
    assert f"{len(records)} rows" in parsed.words


def test_made_up_records_are_called_synthetic(parsed):
    assert parsed.of("p").count({"class": "synthetic", "role": "note"}) == 1


def test_measured_records_are_not_called_synthetic(records, make_view):
    measured = [record.model_copy(update={"is_synthetic": False}) for record in records]
    page = Page(report(make_view(measured), "A title"))

    assert page.figures()
    assert {"class": "synthetic", "role": "note"} not in page.of("p")
    assert '"synthetic"' not in json.dumps(page.figures())


def test_no_text_of_anybody_ends_a_script_or_starts_one(broken_into):
    assert broken_into.count("script") == OWN_SCRIPTS + len(REPORTED)


def test_a_figure_with_a_label_that_would_end_its_script_can_be_read(broken_into):
    assert set(broken_into.figures()) == set(REPORTED)


def test_a_title_that_would_end_a_script_is_shown_as_it_is(broken_into):
    assert broken_into.words.count(BREAKOUT) >= 3  # in the tab, as heading, and as note


def said(figure):
    return [each["text"] for each in figure["layout"]["annotations"]]


def test_a_figure_of_no_records_says_so_in_its_place(make_view):
    figures = Page(report(make_view([]), "A title")).figures()

    assert set(figures) == set(REPORTED)
    for name, figure in figures.items():
        assert figure["data"] == []
        assert said(figure) == [f"No case that is shown tells of {FIGURES[name].summary}."]


def test_a_page_of_failures_has_their_table(records, make_view):
    failed = [record for record in records if record.status != "ok"]
    page = Page(report(make_view(failed), "A title"))

    assert {"oom", "crashed"} <= set(page.words)


def test_a_figure_shows_what_its_view_chose(records, make_view):
    shares = Page(report(make_view(records, scale="share"), "A title")).figures()["components"]

    assert shares["layout"]["title"]["text"].endswith("[%]")


def test_the_same_records_make_the_same_page(written, demo_store):
    data = Data([demo_store.path], keep=False)
    data.refresh()

    assert report(data.frames(ViewState()), "A title", ["a note"]) == written


def test_a_report_has_every_figure_but_those_of_one_record():
    assert set(REPORTED) == set(FIGURES) - OF_ONE_RECORD
    assert set(TABLED) <= set(TABLES)


def test_a_short_table_is_open_and_a_long_one_is_not(parsed, demo_view):
    is_open = ["open" in attributes for attributes in parsed.of("details")]

    assert is_open == [len(demo_view[TABLES[name].frame]) <= OPEN_ROWS for name in TABLED]


def test_a_table_of_the_page_has_a_row_for_each_of_its_frame(parsed, demo_view):
    rows = sum(1 + len(demo_view[TABLES[name].frame]) for name in TABLED)  # and one of headings

    assert parsed.count("tr") == rows


def test_numbers_stand_to_the_right_and_words_to_the_left(written):
    assert '<th scope="col">median [ms]</th>' in written
    assert '<th scope="col" class="text">precision</th>' in written


@pytest.mark.parametrize("name", REPORTED)
def test_a_section_is_headed_with_what_its_figure_tells(parsed, name):
    summary = FIGURES[name].summary

    assert summary[0].upper() + summary[1:] in parsed.words


def test_a_place_is_as_high_as_its_figure_before_it_is_drawn(parsed):
    heights = {
        each["id"].removeprefix("plot-"): each["style"]
        for each in parsed.of("div")
        if each.get("class") == "plot"
    }
    figures = parsed.figures()

    assert heights == {
        name: f"height: {figure['layout']['height']}px" for name, figure in figures.items()
    }
