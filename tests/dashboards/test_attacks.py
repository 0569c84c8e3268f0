"""What somebody else's page, records or addresses may try with the live pages; none may succeed."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import quote

import pytest

from dashboards.figures import FIGURES
from dashboards.pages import PAGES
from dashboards.server import CALLBACK
from dashboards.tables import TABLES
from dashboards.view import FILTERS, OPTIONS, ViewState
from results.records.store import Store, to_json, write_whole

from .serving import HOSTILE, Browser, parts, read, strings

PLACES = [(path, name) for path in PAGES for name in ("above", "below")]
WRONG = (None, 5, 1.5, True, "x", [], {}, [[]], [1], {"a": 1}, [{"id": 1}], "\ud800", [None] * 5)
DEEP = "[" * 100_000
NAMES_OF_FILES = (
    "/assets/../app.py", "/assets/%2e%2e/app.py", "/assets/..%2fapp.py", "/assets/....//app.py",
    "/assets/\\..\\app.py", "/static/../app.py",
    "/assets/pages.js%00.css", "/_dash-component-suites/dash/../../../etc/passwd",
    "/_dash-component-suites/dash/%2e%2e/dash.py", "/_dash-component-suites/os/path.py",
    "/_dash-component-suites/dashboards/server.py", "/_dash-component-suites/<img src=x>/x.js",
)  # fmt: skip
# Plotly shows these of HTML, and typesets between dollars.
SHOWN_AS_HTML = re.compile(r"<\s*/?\s*(script|img|a)\b|\$.*\\href.*\$|%\{y\} \u202e", re.IGNORECASE)


@pytest.fixture(scope="module")
def pages(tiny):
    return Browser(tiny)


@pytest.fixture
def ours(pages):
    """Pages that answer their own questions after all that a test has tried."""
    yield pages
    assert pages.ask("notes") is not None


@pytest.fixture(scope="module")
def hostile(tiny, tmp_path_factory):
    """Pages of records of which every free text tries something."""
    store = Store(tmp_path_factory.mktemp("hostile") / "runs")
    contents = Store(tiny).read()
    for number, record in enumerate(contents.records):
        text = HOSTILE[number % len(HOSTILE)]
        content = json.loads(to_json(record))
        for gpu in content["environment"]["gpus"]:
            gpu["name"] += text
        for name in ("hostname", "os", "cpu", "torch", "python", "sam_bench", "git_commit"):
            content["environment"][name] = text
        content |= {"command": text, "message": text}
        if content["measurement"]:
            content["measurement"] |= {"weights": text, "input_source": text, "notes": {text: text}}
        path = store.case_path(record.sweep_id, record.case_id)
        write_whole(path, json.dumps(content))
    for sweep in contents.sweeps:
        write_whole(store.path / sweep.sweep_id / "sweep.json", to_json(sweep))
    pages = Browser(store.path)
    assert len(pages.data.frames(ViewState())["cases"]) == len(contents.records)
    return pages


@pytest.fixture(scope="module")
def runs(hostile):
    """Queries of all records."""
    return [f"?run={each}" for each in hostile.data.snapshot.files]


def refused(pages, body, **more):
    """One line says that it was no question of ours."""
    response = pages.post(body, **more)
    assert 400 <= response.status_code < 500, response.text
    assert len(response.text.splitlines()) == 1
    assert "Traceback" not in response.text
    return response


def answered(pages, part, name=None, **values):
    """What a question is answered with: never an error, and never a path of this machine."""
    response = pages.post(pages.body(part, name, **values))
    assert response.status_code in (200, 204), response.text
    assert "/etc/passwd:" not in response.text
    assert "root:" not in response.text
    return response


# Addresses


def addresses():
    """Queries that nobody of ours wrote, each with a name."""
    for number, name in enumerate((*FILTERS, *OPTIONS)):
        text = HOSTILE[number % len(HOSTILE)]
        yield f"{name}={text[:12]!a}", f"?{name}={quote(text)}"
    for path in ("../../etc/passwd", "/etc/passwd", "..\\..\\etc\\passwd", "....//etc/passwd"):
        for text in (path, quote(path, safe=""), quote(quote(path, safe=""), safe="")):
            yield f"run={text}", f"?run={text}"
    yield "unknown column", "?columns=__class__&sort=nothing&group_by=password"
    yield "10,000 columns", "?" + "&".join(f"column{number}=1" for number in range(10_000))
    yield "10,000 values", "?" + "&".join(f"device={number}" for number in range(10_000))
    yield "many values", "?" + "&".join(f"device={number}" for number in range(290))
    yield "half a megabyte", "?run=" + "x" * 2**19
    yield "a lone surrogate", "?device=\ud800&run=\udfff"
    yield "no query", "javascript:alert(1)"


ADDRESSES = dict(addresses())


@pytest.mark.parametrize("name", ADDRESSES)
def test_any_address_shows_a_page(name, ours):
    search = ADDRESSES[name]
    for part in ("notes", "filters", "nav"):
        answered(ours, part, search=search)
    for path in ("/", "/run"):
        answered(ours, "page", pathname=path, search=search)
        answered(ours, "place", "above", pathname=path, search=search)
        answered(ours, "graph", PAGES[path].figures[0], search=search)


@pytest.mark.parametrize("name", OPTIONS)
def test_any_choice_shows_its_figures(name, ours):
    for number, text in enumerate(HOSTILE):
        search = f"?{name}={quote(text)}"
        for path in (path for path, page in PAGES.items() if name in page.options):
            answered(ours, "page", pathname=path, search=search)
            answered(ours, "place", "above", pathname=path, search=search)
        named = [each for each, spec in FIGURES.items() if name in spec.options]
        for figure in named[number % 2 :]:
            answered(ours, "graph", figure, search=search)


@pytest.mark.parametrize("name", ADDRESSES)
def test_no_address_sends_a_file(name, ours):
    assert ours.ask("trace-file", search=ADDRESSES[name]) is None


def test_an_address_of_two_megabytes_is_answered_in_a_line(ours):
    response = ours.get("/?run=" + "x" * 2 * 2**20)
    told = refused(ours, ours.body("notes", search="?run=" + "x" * 2 * 2**20))

    assert response.status_code == 200  # the page alone; its questions are refused
    assert told.status_code == 413


@pytest.mark.parametrize("path", NAMES_OF_FILES)
def test_no_file_but_those_of_the_pages_is_sent(path, ours):
    response = ours.get(path)

    assert response.status_code in (400, 404), response.text[:200]
    assert len(response.text.splitlines()) == 1
    assert "<img" not in response.text


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets//etc/passwd"]
)
def test_a_path_of_this_machine_is_a_page_that_is_not_there(path, ours):
    response = ours.get(path)

    assert "root:" not in response.text
    assert "There is no such page" in json.dumps(ours.ask("page", pathname=path))


def test_no_answer_tells_where_the_store_is(ours, tiny):
    answers = [
        ours.get("/").text,
        ours.get("/_dash-layout").text,
        ours.get("/_dash-dependencies").text,
    ]
    for path in PAGES:
        answers += [
            answered(ours, "place", name, pathname=path).text for name in ("above", "below")
        ]
    answers += [answered(ours, "graph", name).text for name in FIGURES]

    assert all(str(tiny.parent) not in text for text in answers)


# Bodies


@pytest.mark.parametrize(
    "body",
    ["", " ", "{", "null", "[]", "1", '"notes.children"', "{}", "NaN", "\x00", b"\xff\xfe", DEEP,
     '{"a":' * 50_000, '{"output": ' + DEEP, '{"output": "notes.children", "inputs": ' + DEEP,
     "1" * 10_000, '{"output": "notes.children"' + " " * 500_000],
)  # fmt: skip
def test_a_body_that_is_no_json_of_ours_is_refused(body, ours):
    refused(ours, body)


@pytest.mark.parametrize("size", [2**20 + 1, 10 * 2**20])
def test_a_body_that_is_too_long_is_refused(size, ours):
    assert refused(ours, "x" * size).status_code == 413


@pytest.mark.parametrize(
    "output",
    ["nothing.children", "", "notes", "notes.style", "..notes.children..", "__class__.x",
     '{"name":["MATCH"],"part":"nothing"}.children', "notes.children@", "_dash-layout", *HOSTILE],
)  # fmt: skip
def test_an_output_that_no_callback_has_is_refused(output, ours):
    refused(ours, ours.body("notes") | {"output": output})


def test_what_browsers_do_by_themselves_is_no_question(ours):
    own = [key for key, each in ours.app.callback_map.items() if "callback" not in each]

    assert own
    for output in own:
        refused(ours, {"output": output, "inputs": [], "state": [], "changedPropIds": []})


def questions(pages):
    """One for each callback of the server."""
    named = {
        "place": "above", "graph": "throughput", "option": "series", "table": "throughput",
        "rows": "latest", "file": "throughput",
    }  # fmt: skip
    for key, each in pages.app.callback_map.items():
        if "callback" in each:
            found = re.match(r'(?:\.\.)?\{"name":\["MATCH"\],"part":"(\w+)"\}', key)
            part = found[1] if found else key.partition(".")[0]
            yield pages.body(part, named[part] if found else None)


def test_every_question_of_ours_is_answered(ours):
    bodies = list(questions(ours))

    assert len(bodies) > 10
    for body in bodies:
        assert ours.post(body).status_code in (200, 204)


@pytest.mark.parametrize("key", ["output", "inputs", "outputs", "state"])
def test_a_question_without_a_part_of_it_is_refused(key, ours):
    for body in questions(ours):
        if body[key]:
            refused(ours, {name: value for name, value in body.items() if name != key})


@pytest.mark.parametrize("key", ["output", "inputs", "outputs", "state", "changedPropIds"])
@pytest.mark.parametrize("value", WRONG, ids=ascii)
def test_a_question_of_another_form_is_refused(key, value, ours):
    for body in questions(ours):
        if value != body[key] and not (key == "changedPropIds" and value == []):
            refused(ours, body | {key: value})


@pytest.mark.parametrize("key", ["id", "property", "value"])
@pytest.mark.parametrize("value", [5.5, [], {}, [1], {"name": "x"}, {"part": "graph"}], ids=ascii)
@pytest.mark.parametrize("kind", ["inputs", "state"])
def test_a_part_of_another_form_is_refused(kind, key, value, ours):
    for body in questions(ours):
        for number in range(len(body[kind])):
            changed = [dict(each) for each in body[kind]]
            changed[number][key] = value
            refused(ours, body | {kind: changed})


@pytest.mark.parametrize("name", ["nothing", "", "__class__", "../x", *HOSTILE, 5, ["x"]])
def test_a_figure_or_table_that_is_not_there_is_refused(name, ours):
    for part in ("graph", "rows", "table", "file", "option", "place"):
        refused(ours, ours.body(part, name))


def test_the_place_of_a_page_that_is_not_there_is_empty(ours):
    assert ours.ask("place", "above", pathname="/nothing") == {"children": []}


def test_saving_without_a_button_saves_nothing(ours):
    body = ours.body("file", "throughput") | {"changedPropIds": []}

    assert ours.post(body).status_code < 500


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_a_question_is_posted_or_refused(method, ours):
    with ours.client.open(CALLBACK, method=method, json=ours.body("notes")) as response:
        assert 400 <= response.status_code < 500


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_of_another_site_can_send_is_refused(kind, ours):
    body = json.dumps(ours.body("notes"))

    assert ours.client.post(CALLBACK, data=body, content_type=kind).status_code == 415


# Records of somebody else's


@pytest.mark.parametrize("name", FIGURES)
def test_no_label_is_markup_in_a_figure(name, hostile, runs):
    of_records = runs if FIGURES[name].frame in ("samples", "telemetry") else []
    for search in ("", "?scale=share&depth=parts&level=modules", *of_records):
        figure = hostile.ask("graph", name, search=search)["figure"]

        assert not [text for text in strings(figure["data"]) if SHOWN_AS_HTML.search(text)]
        assert not [text for text in strings(figure["layout"]) if SHOWN_AS_HTML.search(text)]


@pytest.mark.parametrize(("path", "place"), PLACES)
def test_no_text_is_markup_on_a_page(path, place, hostile, runs):
    for search in ("", *(runs if path == "/run" else ())):
        shown = hostile.ask("place", place, pathname=path, search=search)["children"]

        assert all(is_plain(each) for each in parts(shown))


@pytest.mark.parametrize("part", ["notes", "filters", "nav"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_an_address_is_markup_on_a_page(text, part, hostile):
    query = "&".join(f"{quote(name)}={quote(text)}" for name in (*FILTERS, *OPTIONS, text))
    shown = hostile.ask(part, search=f"?{query}")["children"]

    assert all(is_plain(each) for each in parts(shown))


def is_plain(component):
    """Whether a component shows texts as they are, and leads to our pages alone."""
    props = component["props"]
    return (
        component["type"]
        not in ("Markdown", "DangerouslySetInnerHTML", "Iframe", "Script", "Object")
        and "dangerously_allow_html" not in props
        and "srcDoc" not in props
        and props.get("href", "/").startswith("/")
        and not props.get("href", "/").startswith("//")
    )


@pytest.mark.parametrize("name", TABLES)
def test_cells_of_a_table_are_text(name, hostile):
    for shown in (hostile.ask("rows", name), hostile.ask("table", "throughput", n_clicks=1)):
        for grid in (each["props"] for each in parts(shown) if each["type"] == "AgGrid"):
            drawn = [each["field"] for each in grid["columnDefs"] if "cellRenderer" in each]

            assert "dangerously_allow_code" not in grid
            assert set(drawn) <= {"run"}  # a link of ours
            for row in grid["rowData"]:
                assert re.fullmatch(r"(\[open\]\(/run\?run=[0-9a-f]{16}\))?", row.get("run", ""))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_link_of_a_table_keeps_what_an_address_says_in_quotes(text, hostile):
    grids = hostile.ask("rows", "latest", search=f"?series={quote(text)}")
    for grid in (each["props"] for each in parts(grids) if each["type"] == "AgGrid"):
        for row in grid["rowData"]:
            assert re.fullmatch(r"\[open\]\(/run\?[\w.~%+=&-]+\)", row["run"])


@pytest.mark.parametrize("name", [*FIGURES, *(f"{name}-table" for name in TABLES)])
def test_no_label_is_markup_in_a_table_that_is_saved_as_markdown(name, hostile, runs):
    answer = hostile.ask("file", name, changed='"md"', search=runs[0])

    assert not re.search(r"<\s*/?\s*(script|img|a)\b", answer["data"]["content"])
    assert "filename" in answer["data"]
    assert re.fullmatch(r"[\w-]+\.[\w-]+|[\w.-]+", answer["data"]["filename"])


def test_the_page_that_a_browser_loads_holds_no_text_of_a_record(hostile):
    for path in (
        "/",
        "/_dash-layout",
        "/_dash-dependencies",
        "/run?run=<img src=x onerror=alert(1)>",
    ):
        assert "alert(1)" not in hostile.get(path).text


def test_a_store_s_links_lead_to_no_other_file(store, tmp_path):
    (tmp_path / "secret").write_text("a secret")
    record = store.read().records[0]
    trace = store.trace_path(record.sweep_id, record.case_id)
    trace.parent.mkdir()
    os.symlink(tmp_path / "secret", trace)
    pages, search = Browser(store.path), f"?run={record.record_id}"

    assert pages.ask("trace-file", search=search) is None
    assert "a secret" not in answered(pages, "place", "above", pathname="/run", search=search).text


def test_a_store_that_is_a_link_to_another_file_is_no_store(tmp_path):
    os.symlink("/etc/passwd", tmp_path / "link")

    assert read(tmp_path / "link").snapshot.errors
