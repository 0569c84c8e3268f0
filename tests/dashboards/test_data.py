"""Stores as the pages know them: filtered, growing, broken, gone, and asked by many at once."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

from dashboards.data import MAKERS, MOST_NOTES, MOST_VIEWS, Data, UnknownRecordError
from dashboards.view import FILTERS, ViewState, parse_view
from results.records.store import Store, write_whole

from .serving import cases_of, read, record_path

OF_A_RECORD = ("samples", "telemetry")
OF_ALL = [name for name in MAKERS if name not in OF_A_RECORD]
NOWHERE = (
    "../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd", "..\\..\\etc\\passwd", "file:///etc/passwd", "/proc/self/environ",
    "\x00", "/etc/passwd\x00.json", ".", "..", "", " ", "<img src=x onerror=alert(1)>", "a" * 300,
)  # fmt: skip
OPENED: list[str] | None = None  # by this process, while a test looks


def note_what_is_opened(event, arguments):
    if OPENED is not None and event in ("open", "os.listdir", "os.scandir"):
        OPENED.append(str(arguments[0]))


sys.addaudithook(note_what_is_opened)  # there is no way to take one back


@pytest.fixture
def opened():
    """Paths of all that is opened from now on."""
    global OPENED
    OPENED = []
    yield OPENED
    OPENED = None


@pytest.fixture(scope="module")
def shown(tiny):
    """The fewest records, which no test changes."""
    return read(tiny, keep=False)


@pytest.fixture
def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return read(tmp_path / "empty")


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_narrows_every_frame(name, shown):
    column = FILTERS[name].column
    value = cases_of(shown)[column].astype(str).iloc[0]
    frames = shown.frames(ViewState(filters={name: (value,)}))
    own = set(frames["cases"]["record_id"])

    assert set(frames["cases"][column].astype(str)) == {value}
    for each in OF_ALL:
        if "record_id" in frames[each]:
            assert set(frames[each]["record_id"].dropna()) <= own


def test_filters_of_two_axes_hold_both(shown):
    cases = cases_of(shown, "?precision=bf16&attention=sdpa&batch_size=1")

    assert len(cases) == 1
    assert cases["attention"].tolist() == ["sdpa"]


@pytest.mark.parametrize("name", FILTERS)
def test_a_value_that_no_case_has_shows_none(name, shown):
    frames = shown.frames(ViewState(filters={name: ("</script>",)}))

    assert not frames.is_empty  # the store has records
    for each in OF_ALL:
        assert frames[each].empty, each


def test_frames_of_a_view_are_made_once(shown):
    frames, again = (shown.frames(parse_view("?precision=bf16")) for _ in range(2))

    assert frames is again
    assert all(frames[name] is again[name] for name in OF_ALL)


def test_frames_of_few_views_are_kept():
    data = Data([])
    for number in range(10 * MOST_VIEWS):
        data.frames(parse_view(f"?device={number}"))

    assert len(data._views) == MOST_VIEWS


def test_prices_that_a_person_tries_make_the_cost(shown):
    by_default = cases_of(shown)["million_usd"].to_numpy()
    twice = cases_of(shown, "?prices=L4%3D2")
    half = cases_of(shown, "?prices=L4%3D1, H200 = 3.5")

    assert set(twice["price_source"]) == {"what if"}
    assert np.isfinite(by_default[~np.isnan(by_default)]).all()
    np.testing.assert_allclose(twice["million_usd"], 2 * half["million_usd"])


@pytest.mark.parametrize(
    "prices",
    ["L4", "L4=", "=5", "%20%3D5", "L4=-1", "L4=0", "L4=nan", "L4=inf", "L4=1e3", "L4=1;H200=2",
     "L4=99999999", "</script>", "%00", "L4=1,L4", "H200"],
)  # fmt: skip
def test_a_price_that_can_not_be_used_changes_nothing(prices, shown):
    pd.testing.assert_frame_equal(
        cases_of(shown, f"?prices={prices.replace('=', '%3D')}"), cases_of(shown)
    )


def test_the_record_of_an_address_is_read(shown, tiny):
    record = Store(tiny).read().records[0]
    frames = shown.frames(ViewState(options={"run": record.record_id}))

    assert frames.record() == record
    assert len(frames["samples"]) == len(record.measurement.latency.forward_s)


@pytest.mark.parametrize("name", [*NOWHERE, *(quote(name, safe="") for name in NOWHERE)])
def test_a_record_that_no_store_has_is_refused_and_nothing_is_opened(name, shown, opened):
    frames = shown.frames(ViewState(options={"run": name}))
    for ask in (frames.record, lambda: frames["samples"], lambda: frames["telemetry"]):
        with pytest.raises(UnknownRecordError):
            ask()

    assert frames.trace_path() is None
    assert opened == []


def test_a_view_without_a_record_says_how_to_choose_one(shown):
    with pytest.raises(UnknownRecordError, match="click a point"):
        shown.frames(ViewState()).record()


@pytest.mark.parametrize("becomes", [None, "", "{", "[" * 100_000, "null", '{"schema_version": 9}'])
def test_a_record_whose_file_is_gone_or_broken_is_refused(becomes, store):
    data = read(store.path)
    record_id = cases_of(data)["record_id"][0]
    path = data.snapshot.files[record_id]
    path.unlink()
    if becomes is not None:
        path.write_text(becomes)

    with pytest.raises(UnknownRecordError, match="can't be read any more"):
        data.frames(ViewState(options={"run": record_id})).record()


def test_a_trace_is_that_of_the_record(store):
    record = store.read().records[0]
    store.write_trace(record, b"trace")
    frames = read(store.path).frames(ViewState(options={"run": record.record_id}))

    assert frames.trace_path().read_bytes() == b"trace"


def test_a_trace_that_leads_out_of_the_store_is_none(store, tmp_path):
    record = store.read().records[0]
    (tmp_path / "secret").write_text("secret")
    path = store.trace_path(record.sweep_id, record.case_id)
    path.parent.mkdir()
    path.symlink_to(tmp_path / "secret")

    assert (
        read(store.path).frames(ViewState(options={"run": record.record_id})).trace_path() is None
    )


def test_a_record_that_is_added_is_shown_at_the_next_reading(store):
    path = record_path(store)
    content = path.read_text()
    path.unlink()
    data = read(store.path)
    before, stamp = len(cases_of(data)), data.snapshot.stamp
    write_whole(path, content)
    data.refresh()

    assert len(cases_of(data)) == before + 1
    assert data.snapshot.stamp != stamp


def test_nothing_is_read_again_where_nothing_changed(store):
    data = read(store.path)
    frames, stamp = data.frames(ViewState()), data.snapshot.stamp
    data.refresh()

    assert data.snapshot.stamp == stamp
    assert data.frames(ViewState()) is frames


def test_a_view_that_is_being_drawn_keeps_its_records_while_the_store_changes(store):
    data = read(store.path)
    frames, count = data.frames(ViewState()), len(data.snapshot.files)
    shutil.rmtree(store.path / store.sweep_ids()[0])
    data.refresh()

    assert len(frames["cases"]) == count


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff", b"null", b"[" * 100_000, b"{}"])
def test_a_record_that_is_garbage_is_passed_over_and_named(content, store):
    path = record_path(store)
    path.write_bytes(content)
    data = read(store.path)

    assert len(cases_of(data)) == len(store.read().records)
    assert [note for note in data.snapshot.notes if str(path) in note]
    assert data.snapshot.errors == ()


def test_of_many_records_that_are_garbage_some_are_named_and_the_rest_counted(store):
    for number in range(MOST_NOTES + 5):
        record_path(store).with_name(f"z{number}.json").write_text("{")
    notes = read(store.path).snapshot.notes

    assert len(notes) == MOST_NOTES + 1
    assert notes[-1].startswith("5 more files were passed over")


@pytest.mark.parametrize("name", ["hardware.toml", "prices.toml"])
@pytest.mark.parametrize("content", [b"[", b"\xff\x00", b'["NVIDIA L4"]\nnonsense = 1\n'])
def test_what_was_read_stays_while_a_file_of_the_store_is_broken(name, content, store):
    data = read(store.path)
    before = cases_of(data)["record_id"].tolist()
    (store.path / name).write_bytes(content)
    data.refresh()

    assert cases_of(data)["record_id"].tolist() == before
    (error,) = data.snapshot.errors
    assert name in error
    assert error in data.snapshot.notes
    (store.path / name).unlink()
    assert data.refresh().errors == ()


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_read_stays_when_the_store_is_gone(keep, store):
    data = read(store.path, keep=keep)
    before = cases_of(data)["record_id"].tolist()
    shutil.rmtree(store.path)
    data.refresh()

    assert cases_of(data)["record_id"].tolist() == before
    (error,) = data.snapshot.errors
    assert str(store.path) in error
    assert not store.path.exists()


def test_a_store_that_comes_back_is_read_again(store, tiny):
    data = read(store.path)
    shutil.rmtree(store.path)
    data.refresh()
    shutil.copytree(tiny, store.path)
    record_path(store).unlink()

    assert data.refresh().errors == ()
    assert len(cases_of(data)) == len(store.read().records)


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_what_is_no_store_is_an_error_and_stays_as_it_is(kind, tmp_path):
    path = tmp_path / "other"
    if kind == "file":
        path.write_text("mine")
    data = read(path)

    assert len(data.snapshot.errors) == 1
    assert data.frames(ViewState()).is_empty
    assert os.listdir(tmp_path) == (["other"] if kind == "file" else [])


def test_a_record_that_two_stores_have_counts_once(store, tmp_path):
    shutil.copytree(store.path, tmp_path / "copy")
    data = read(store.path, tmp_path / "copy")

    assert cases_of(data)["record_id"].is_unique
    assert len(cases_of(data)) == len(store.read().records)


@pytest.mark.parametrize("name", ["components", "modules"])
def test_rows_of_a_record_that_two_stores_have_count_once(name, store, tmp_path):
    shutil.copytree(store.path, tmp_path / "copy")
    one, both = read(store.path), read(store.path, tmp_path / "copy")

    assert len(both.frames(ViewState())[name]) == len(one.frames(ViewState())[name])


def test_records_of_two_stores_are_shown_together(store, tmp_path):
    other = Store(tmp_path / "other")
    record = store.read().records[0]
    other.write_record(record.model_copy(update={"sweep_id": "20270101-000000-other"}))
    data = read(store.path, other.path)

    assert len(cases_of(data)) == len(store.read().records) + 1
    assert cases_of(data, "?sweep=20270101-000000-other")["case_id"].tolist() == [record.case_id]


def test_one_store_that_is_gone_hides_no_other(store, tmp_path):
    data = read(tmp_path / "gone", store.path)

    assert len(cases_of(data)) == len(store.read().records)
    assert len(data.snapshot.errors) == 1


def test_a_store_without_records_is_empty_and_no_error(empty):
    assert empty.snapshot.errors == ()
    assert empty.frames(ViewState()).is_empty


def test_a_store_whose_last_record_is_removed_is_empty(store):
    data = read(store.path)
    for sweep_id in store.sweep_ids():
        shutil.rmtree(store.path / sweep_id)
    data.refresh()

    assert data.frames(ViewState()).is_empty
    assert data.snapshot.errors == ()


def test_the_first_record_of_a_store_is_shown(empty, tiny):
    store = Store(empty.stores[0].path)
    store.write_record(Store(tiny).read().records[0])
    empty.refresh()

    assert len(cases_of(empty)) == 1


@pytest.mark.parametrize("status", ["ok", "oom"])
def test_every_frame_can_be_made_of_one_record(status, tmp_path, tiny):
    record = next(each for each in Store(tiny).read().records if each.status == status)
    Store(tmp_path / "one").write_record(record)
    frames = read(tmp_path / "one").frames(ViewState(options={"run": record.record_id}))

    assert len(frames["cases"]) == 1
    for name in MAKERS:
        assert isinstance(frames[name], pd.DataFrame)


def test_fifty_that_ask_at_once_have_each_their_own_answer(shown):
    cases = cases_of(shown)
    searches = ["", *(f"?run={record_id}" for record_id in cases["record_id"])]
    searches += [f"?precision={each}&batch_size=1" for each in ("bf16", "fp32")] * 10
    searches = (searches * 50)[:50]

    def ask(search):
        view = parse_view(search)
        frames = shown.frames(view)
        if run := view.option("run"):
            return frames.record().record_id == run and len(frames["cases"]) == len(cases)
        wanted = set(view.filters.get("precision", cases["precision"]))
        own = frames["modules"]["record_id"].isin(frames["cases"]["record_id"]).all()
        return own and set(frames["cases"]["precision"]) == wanted

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(ask, searches))


def test_a_path_of_a_record_is_in_its_store(shown, tiny):
    for path in (*shown.snapshot.files.values(), *shown.snapshot.sweeps.values()):
        assert Path(tiny) in path.parents


def test_reading_again_while_others_ask_disturbs_nobody(store):
    data = read(store.path)
    path = record_path(store)
    content, count = path.read_text(), len(cases_of(data))
    is_done = threading.Event()

    def ask(number):
        counts = set()
        while not is_done.is_set():
            counts.add(len(cases_of(data, f"?image_size=1024&device=NVIDIA+L4&x={number}")))
        return counts

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, number) for number in range(3)]
        for _ in range(3):
            path.unlink()
            data.refresh()
            write_whole(path, content)
            data.refresh()
        is_done.set()

    assert set().union(*(each.result() for each in asked)) <= {count - 1, count}
