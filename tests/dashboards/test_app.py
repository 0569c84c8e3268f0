"""Pages as a browser gets them: their parts, what each callback answers, and what is saved."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest

from dashboards.controls import values_of
from dashboards.figures import FIGURES
from dashboards.grid import ROWS
from dashboards.layout import FROM_ADDRESS_ALONE
from dashboards.pages import PAGES
from dashboards.tables import TABLES
from dashboards.view import FILTERS, OPTIONS, ViewState
from results.records.store import Store

from .serving import Browser, ids, parts, said, strings, written

FIGURES_OF_PAGES = [(path, name) for path, page in PAGES.items() for name in page.figures]
CHOICES = [(name, choice) for name, each in OPTIONS.items() for choice in each.choices]
AGAIN = "20260201-000000-demo-again"


@pytest.fixture(scope="module")
def demo(tiny, tmp_path_factory):
    """The fewest records, all of them measured once more on another day."""
    path = tmp_path_factory.mktemp("demo") / "runs"
    shutil.copytree(tiny, path)
    contents = Store(path).read()
    again = {"sweep_id": AGAIN, "started_at": "2026-02-01T00:00:00+00:00"}
    Store(path).write_sweep(contents.sweeps[0].model_copy(update={"sweep_id": AGAIN}))
    for record in contents.records:
        Store(path).write_record(record.model_copy(update=again))
    return Browser(path)


@pytest.fixture(scope="module")
def run(demo):
    """The query of a good record."""
    cases = demo.data.frames(ViewState())["cases"]
    return f"?run={cases[cases['status'] == 'ok']['record_id'].iloc[0]}"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return Browser(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def one(tiny, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("one") / "runs")
    store.write_record(Store(tiny).read().records[0])
    return Browser(store.path)


@pytest.fixture(params=["demo", "empty", "one"])
def any_store(request):
    """Pages of the demonstration, of an empty store, and of one record."""
    return request.getfixturevalue(request.param)


def figure_of(browser, name, **values):
    return browser.ask("graph", name, **values)["figure"]


def of_type(tree, kind):
    return [each["props"] for each in parts(tree) if each["type"] == kind]


# Pages


def test_the_page_that_a_browser_loads_is_in_english_and_has_its_title(demo):
    text = demo.get("/").text

    assert '<html lang="en">' in text
    assert "<title>sam-bench</title>" in text


def test_nothing_of_a_page_comes_from_elsewhere(demo):
    text = demo.get("/").text

    assert 'src="/' in text
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert 'src="//' not in text
    assert 'href="//' not in text


def test_every_file_that_a_page_asks_for_is_there(demo):
    text = demo.get("/").text
    asked = [each.partition('"')[0] for each in text.split('src="')[1:] + text.split('href="')[1:]]

    assert len(asked) > 5
    for path in asked:
        assert demo.get(path).status_code == 200, path


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_its_skeleton(path, any_store):
    page, children = PAGES[path], any_store.ask("page", pathname=path)["children"]
    wanted = [("graph", name) for name in page.figures] + [("rows", name) for name in page.tables]
    wanted += [("option", name) for name in page.options if name not in FROM_ADDRESS_ALONE]

    assert [each["children"] for each in of_type(children, "H1")] == [page.title]
    assert page.lead in said(children)
    assert {written({"part": part, "name": name}) for part, name in wanted} <= set(ids(children))


@pytest.mark.parametrize("path", PAGES)
def test_no_two_parts_of_a_page_have_the_same_id(path, demo, run):
    frame = demo.get("/_dash-layout").json
    own = ids([frame, demo.ask("page", pathname=path)["children"]])
    for name in ("above", "below"):
        own += ids(demo.ask("place", name, pathname=path, search=run)["children"])

    assert len(own) == len(set(own))


@pytest.mark.parametrize("path", PAGES)
def test_what_stands_beside_the_figures_can_be_made(path, any_store, run):
    for name in ("above", "below"):
        for search in ("", run, "?run=nothing", "?device=nothing"):
            assert any_store.ask("place", name, pathname=path, search=search) is not None


@pytest.mark.parametrize("path", ["/nothing", "/run/", "/../../etc/passwd", "//", "", None])
def test_a_page_that_is_not_there_says_so(path, any_store):
    assert "There is no such page" in said(any_store.ask("page", pathname=path)["children"])


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_loaded_at_its_address(path, demo):
    assert demo.get(path).text.count("react-entry-point") == 1


def test_every_figure_stands_on_a_page():
    assert {name for _, name in FIGURES_OF_PAGES} == set(FIGURES)


@pytest.mark.parametrize("path", PAGES)
def test_going_to_another_page_keeps_the_query(path, demo):
    search = "?device=NVIDIA+L4&scale=share"
    links = of_type(demo.ask("nav", pathname=path, search=search)["children"], "NavLink")

    assert {each["href"] for each in links} >= {
        f"{each}{search}" for each in PAGES if each != "/run"
    }
    assert [each["href"] for each in links if each["active"]] == [f"{path}{search}"]
    assert [each["label"] for each in links if "aria-current" in each] == [PAGES[path].title]


# Figures


@pytest.mark.parametrize(("path", "name"), FIGURES_OF_PAGES)
def test_every_figure_of_every_page_draws(path, name, any_store, run):
    for search in ("", run, "?device=nothing"):
        answer = any_store.ask("graph", name, search=search, pathname=path)

        assert answer["style"] == {"height": answer["figure"]["layout"]["height"]}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_the_demonstration_shows_something(name, demo, run):
    assert figure_of(demo, name, search=run)["data"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_an_empty_store_says_so(name, empty):
    figure = figure_of(empty, name)
    told = figure["layout"]["annotations"][0]["text"]

    assert figure["data"] == []
    assert told.endswith(f" tells of {FIGURES[name].summary}.")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_dark_where_the_page_is(name, demo):
    papers = {
        figure_of(demo, name, checked=dark)["layout"]["paper_bgcolor"] for dark in (True, False)
    }

    assert len(papers) == 2


@pytest.mark.parametrize(("option", "choice"), CHOICES)
def test_every_choice_can_be_drawn(option, choice, demo):
    for name in (name for name, spec in FIGURES.items() if option in spec.options):
        assert figure_of(demo, name, search=f"?{option}={choice}")["data"]


def test_a_figure_keeps_its_zoom_while_it_means_the_same(demo):
    first, filtered, other = (
        figure_of(demo, "components", search=search)["layout"]["uirevision"]
        for search in ("", "?device=NVIDIA+L4", "?scale=share")
    )

    assert first == filtered != other


# Filters and choices


@pytest.mark.parametrize("name", FILTERS)
def test_an_axis_in_which_cases_differ_has_a_filter(name, demo):
    cases = demo.data.frames(ViewState())["cases"]
    values = values_of(cases, FILTERS[name].column)
    offered = {
        each["id"]["name"]: each["data"] for each in of_type(demo.ask("filters"), "MultiSelect")
    }

    assert offered.get(name) == (values if len(values) > 1 else None)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_is_set_can_be_taken_away_although_no_case_passes_it(name, any_store):
    shown = of_type(any_store.ask("filters", search=f"?{name}=nothing"), "MultiSelect")

    assert [each["value"] for each in shown if each["id"]["name"] == name] == [["nothing"]]


@pytest.mark.parametrize("name", OPTIONS)
def test_what_can_be_chosen_is_offered_once_and_can_be_drawn(name, demo):
    answer = demo.ask("option", name)
    if answer is None:  # words that do not change, or text
        return
    values = [each["value"] for each in answer["data"]]

    assert len(values) == len(set(values))
    for value in values:
        for each in (each for each, spec in FIGURES.items() if name in spec.options):
            assert figure_of(demo, each, search=f"?{name}={value}")["data"]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_empty_store_offers_no_choice(name, empty):
    answer = empty.ask("option", name)

    assert answer is None or answer["data"] == []


def test_reading_the_stores_again_shows_what_was_added(tiny, tmp_path):
    store = Store(tmp_path / "runs")
    record = Store(tiny).read().records[0]
    store.write_record(record)
    browser = Browser(store.path)
    before = browser.ask("stamp")["data"]
    store.write_record(record.model_copy(update={"sweep_id": "20270101-000000-other"}))

    assert browser.ask("stamp")["data"] != before
    assert "in 2 sweeps" in "".join(strings(browser.ask("place", "above")))


# Notes


def test_made_up_records_are_called_synthetic(demo):
    assert said(demo.ask("notes")["children"]).startswith("Synthetic: ")


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("?device=nothing", "No case passes all filters"),
        ("?nonsense=1", "Nothing here is called 'nonsense'"),
        ("?scale=wide", "Scale must be absolute or share, got 'wide'."),
        ("?batch=many", "Batch must be a whole number, got 'many'."),
        ("?" + "x" * 10_000, "This address is too long"),
    ],
)
def test_what_a_person_should_know_is_noted(search, told, demo):
    assert told in said(demo.ask("notes", search=search)["children"])


def test_an_empty_store_says_how_to_fill_it(empty):
    assert "sam-bench quickstart" in said(empty.ask("notes")["children"])


def test_a_store_that_is_gone_is_noted_and_stays_shown(store):
    browser = Browser(store.path)
    shutil.rmtree(store.path)
    browser.load()

    assert str(store.path) in said(browser.ask("notes")["children"])
    assert figure_of(browser, "throughput")["data"]


def test_a_price_that_can_not_be_used_is_noted(demo):
    shown = demo.ask("place", "above", pathname="/cost", search="?prices=L4%3Dmuch")["children"]

    assert "A price must be a GPU's name and USD an hour" in said(shown)


# Tables and what is saved


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_shown(name, any_store):
    assert any_store.ask("rows", name)["children"]


@pytest.mark.parametrize("name", FIGURES)
def test_the_table_of_a_figure_appears_at_a_click_and_goes_at_the_next(name, demo, run):
    (grid,) = of_type(demo.ask("table", name, n_clicks=1, search=run), "AgGrid")

    assert grid["rowData"]
    assert {each["field"] for each in grid["columnDefs"]} <= {"run", *FIGURES[name].columns}
    assert demo.ask("table", name, n_clicks=2, search=run)["children"] == []


def test_a_long_table_says_how_much_of_it_is_shown(demo):
    demo_modules = len(demo.data.frames(ViewState())["modules"])
    shown = demo.ask("table", "layers", n_clicks=1)["children"]
    (grid,) = of_type(shown, "AgGrid")

    assert len(grid["rowData"]) == min(ROWS, demo_modules)
    assert (f"{ROWS} of {demo_modules} rows shown." in said(shown)) == (demo_modules > ROWS)


def test_no_two_rows_of_a_table_have_the_same_id(demo, run):
    for name in FIGURES:
        for grid in of_type(demo.ask("table", name, n_clicks=1, search=run), "AgGrid"):
            rows = [row["id"] for row in grid["rowData"] if "id" in row]
            assert len(rows) == len(set(rows))


@pytest.mark.parametrize("name", [*FIGURES, *(f"{name}-table" for name in TABLES)])
def test_every_figure_and_table_can_be_saved(name, demo, run):
    frames = demo.data.frames(ViewState(options={"run": run.partition("=")[2]}))
    spec = TABLES[name.removesuffix("-table")] if name.endswith("-table") else FIGURES[name]
    table = demo.ask("file", name, changed='"csv"', search=run)["data"]
    text = demo.ask("file", name, changed='"md"', search=run)["data"]

    assert table["filename"] == f"sam-bench-{name}.csv"
    assert len(list(csv.reader(io.StringIO(table["content"])))) == 1 + len(frames[spec.frame])
    assert text["filename"] == f"sam-bench-{name}.md"
    assert text["content"].startswith("| ")


@pytest.mark.parametrize("name", FIGURES)
def test_of_an_empty_store_nothing_is_saved(name, empty):
    assert empty.ask("file", name, changed='"csv"') is None


def test_nothing_is_saved_by_buttons_that_have_just_appeared(demo):
    assert demo.ask("file", "throughput", changed='"csv"', n_clicks=0) is None


def test_a_trace_is_sent_as_it_is(store):
    record = store.read().records[0]
    store.write_trace(record, b"a trace")
    browser, search = Browser(store.path), f"?run={record.record_id}"

    assert browser.ask("trace-file", search=search)["data"]["base64"]
    assert browser.ask("trace-file", search="?run=nothing") is None
    assert '"trace"' in json.dumps(browser.ask("place", "above", pathname="/run", search=search))


def test_the_run_s_page_has_the_command_that_repeats_it(demo, run, tiny):
    shown = demo.ask("place", "above", pathname="/run", search=run)["children"]

    assert Store(tiny).read().records[0].command in said(shown)


def test_the_page_of_a_run_that_no_store_has_says_so(any_store):
    shown = any_store.ask("place", "above", pathname="/run", search="?run=nothing")["children"]

    assert shown == [] or "No store here has the record" in said(shown)
    assert not list(
        strings(any_store.ask("place", "below", pathname="/run", search="?run=nothing"))
    )[1:]
