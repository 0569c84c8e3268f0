"""Stores in schema 2 still tell what they told when it was written.

schema_2/<store> was measured, or made up, by commit 3d6d860, which wrote that schema; what that
commit told of them lies in schema_2/expected. A table may gain columns and a figure traces' fields;
none of those that are expected may be gone, or tell something else.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarking.cli import main
from benchmarking.machine import environment as environment_file
from benchmarking.sweeping.planning import resumed_sweep, why_not_resumed
from benchmarking.views.gate_report import comment
from dashboards.data import Data
from dashboards.drawing import drawn
from dashboards.view import ViewState
from results.records.case import Case
from results.records.reading import read_file
from results.records.schema import SweepFile
from results.records.store import Store
from results.tables.index import refresh
from results.verdicts.baselines import read_accepted
from results.verdicts.gates import read_gates
from results.verdicts.selftest import read_sees

FOLDER = Path(__file__).parent / "schema_2"
EXPECTED = FOLDER / "expected"
GATE = "gate/gates/20261130-224515-gate"  # whose launches are stores like any other
STORES = {name: name for name in ("cpu", "encoder", "failures", "twice", "demo")} | {
    f"gate_{side}": f"{GATE}/{side}" for side in ("base", "head")
}
DRAWN = ("type", "name", "x", "y", "z")  # of a trace, that is compared
PRECISE = {"rel_tol": 1e-7, "abs_tol": 1e-14}  # expected numbers have eight digits
BORDER = "│"

Rows = list[dict[str, Any]]


# What was expected, and how it differs from what is found


def read_expected(store: str, name: str) -> Any:
    return json.loads((EXPECTED / store / f"{name}.json").read_text())


def unpacked(table: dict[str, Any]) -> Rows:
    """The rows of a table that is kept by column, each as values, or as runs of equal ones."""
    columns = {
        name: [value for value, count in kept["runs"] for _ in range(count)]
        if isinstance(kept, dict)
        else kept
        for name, kept in table.items()
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def differences(expected: Any, found: Any, place: str = "") -> Iterator[str]:
    """Where two values differ; what stands in `found` alone is fine."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            if name not in found:
                yield f"{place}/{name}: it is gone"
            else:
                yield from differences(value, found[name], f"{place}/{name}")
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{place}: {len(found)} in place of {len(expected)}"
        for number, pair in enumerate(zip(expected, found, strict=False)):
            yield from differences(*pair, f"{place}/{number}")
    elif not is_same(expected, found):
        yield f"{place}: {found!r} in place of {expected!r}"


def is_same(expected: Any, found: Any) -> bool:
    if is_number(expected) and is_number(found):
        return math.isclose(expected, found, **PRECISE)
    return type(expected) is type(found) and expected == found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_in(expected: Any, text: str) -> Any:
    """A cell of a CSV file, read as what is expected there."""
    if expected is None:
        return text or None
    if isinstance(expected, bool):
        return {"True": True, "False": False}.get(text, text)
    return float(text) if is_number(expected) and text else text


def csv_rows(text: str, expected: Rows) -> Rows:
    """The expected columns of a CSV file that are there."""
    rows = list(csv.DictReader(io.StringIO(text)))
    kinds = [*expected, *[{}] * (len(rows) - len(expected))]
    return [
        {name: as_in(value, row[name]) for name, value in kind.items() if name in row}
        for kind, row in zip(kinds, rows, strict=False)
    ]


def markdown_tables(text: str) -> list[Rows]:
    """Each table's rows by heading."""
    tables: list[Rows] = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        headings, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                              for line in block.splitlines())  # fmt: skip
        tables.append([dict(zip(headings, row, strict=True)) for row in rows])
    return tables


def numbers(lines: Iterable[str]) -> Counter[str]:
    """Measured numbers of some sentences, which may be worded otherwise: those with decimals."""
    return Counter(re.findall(r"\d+\.\d+", " ".join(lines)))


def told_lines(text: str) -> list[str]:
    """What Markdown says outside of its tables, but for captions, which name the axes."""
    lines = [line for line in text.splitlines() if line and not line.startswith("|")]
    return [line for line in lines if not line.startswith("in all rows")]


def cells_of(text: str) -> list[list[str]]:
    """The rows of a terminal's tables."""
    rows = [line for line in text.splitlines() if line.startswith(BORDER)]
    return [[cell.strip() for cell in row.split(BORDER)[1:-1]] for row in rows]


# What is found


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """A copy of all stores, since commands may write an index beside the records."""
    return Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("golden") / "schema_2"))


@pytest.fixture
def run(golden, monkeypatch):
    """Call sam-bench in the folder of the copies; what it says."""
    monkeypatch.chdir(golden)
    on_ctrl_c = signal.getsignal(signal.SIGINT)

    def call(line, exit_code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        signal.signal(signal.SIGINT, on_ctrl_c)  # which a command that ends ignores
        assert result.exit_code == exit_code, result.output
        assert "passed over" not in result.stderr
        return result.stdout

    return call


@pytest.fixture
def records():
    """All records of a store, which must be fine."""

    def read(store):
        contents = Store(FOLDER / STORES[store]).read()
        assert contents.problems == []
        return contents.records

    return read


@pytest.fixture
def gate():
    problems = []
    (found,) = read_gates(Store(FOLDER / "gate"), problems)
    assert problems == []
    return found


def traces_of(store: Path, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The data of figures as a report has them."""
    data = Data([store])
    data.refresh()
    frames = data.frames(ViewState())
    figures = {name: drawn(name, frames, "light").to_plotly_json() for name in names}
    return {
        name: [
            {key: plain(trace[key]) for key in DRAWN if trace.get(key) is not None}
            for trace in figure["data"]
        ]
        for name, figure in figures.items()
    }


def plain(value: Any) -> Any:
    """As JSON has it: None where there is no number."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def every(name: str) -> list[tuple[str, str]]:
    """Each store with an expected file of that name, and each thing that is expected there."""
    stores = sorted(path.parent.name for path in EXPECTED.glob(f"*/{name}.json"))
    return [(store, what) for store in stores for what in read_expected(store, name)]


# Reading


@pytest.mark.parametrize("store", STORES)
def test_each_file_of_a_golden_store_is_read_without_a_problem(store):
    assert Store(FOLDER / STORES[store]).read().problems == []


@pytest.mark.parametrize("store", STORES)
def test_the_index_of_a_golden_store_passes_no_file_over(store, golden):
    path = golden / STORES[store]

    assert refresh(Store(path), keep=False).problems(path) == []


@pytest.mark.parametrize("store", STORES)
def test_each_golden_sweep_has_its_end(store):
    opened = Store(FOLDER / STORES[store])

    assert [each for each in opened.sweep_ids() if opened.read_end(each) is None] == []


def test_the_golden_roofs_are_read():
    assert len(Store(FOLDER / "cpu").read_roofs()) == 1


@pytest.mark.parametrize("store", [*STORES, "kinds_of_gpu"])  # the last has its ids alone
def test_a_golden_case_keeps_its_id(store):
    cases = read_expected(store, "ids")["cases"]

    assert {case_id: Case(**case).case_id for case_id, case in cases.items()} == {
        case_id: case_id for case_id in cases
    }


@pytest.mark.parametrize("store", STORES)
def test_golden_records_are_of_the_cases_that_they_were_of(store, records):
    found = {record.case_id: record.case.model_dump() for record in records(store)}

    assert list(differences(read_expected(store, "ids")["cases"], found)) == []


@pytest.mark.parametrize("store", STORES)
def test_a_golden_record_keeps_its_id(store, records):
    found = {f"{each.sweep_id}/{each.case_id}": each.record_id for each in records(store)}

    assert found == read_expected(store, "ids")["records"]


# Commands that show


@pytest.mark.parametrize(("store", "view"), every("show"))
def test_a_golden_store_is_shown_as_it_was(store, view, run):
    found = json.loads(run(f"show {view} --store {STORES[store]} --sweep all --format json"))

    assert list(differences(unpacked(read_expected(store, "show")[view]), found)) == []


@pytest.mark.parametrize(
    ("store", "view"), [each for each in every("show") if each[1] in ("cases", "modules")]
)
def test_a_golden_store_is_exported_as_it_was(store, view, run, tmp_path):
    run(f"export csv {view} --store {STORES[store]} -o '{tmp_path / 'out.csv'}'")
    expected = unpacked(read_expected(store, "show")[view])

    found = csv_rows((tmp_path / "out.csv").read_text(), expected)
    assert list(differences(expected, found)) == []


@pytest.mark.parametrize(("store", "view"), every("markdown"))
def test_the_markdown_tables_of_a_golden_store_are_what_they_were(store, view, run):
    text = run(f"show {view} --store {STORES[store]} --sweep all --format md")
    expected = read_expected(store, "markdown")[view]

    assert list(differences(markdown_tables(expected), markdown_tables(text))) == []


@pytest.mark.parametrize(("store", "view"), every("markdown"))
def test_the_sentences_on_a_golden_store_have_the_numbers_that_they_had(store, view, run):
    text = run(f"show {view} --store {STORES[store]} --sweep all --format md")
    expected = numbers(told_lines(read_expected(store, "markdown")[view]))

    assert expected - numbers(told_lines(text)) == Counter()


@pytest.mark.parametrize(("store", "figure"), every("figures"))
def test_a_figure_of_a_golden_store_is_what_it_was(store, figure, golden):
    found = traces_of(golden / STORES[store], [figure])

    assert list(differences(read_expected(store, "figures")[figure], found[figure])) == []


@pytest.mark.parametrize("store", STORES)
def test_a_report_of_a_golden_store_passes_no_file_over(store, golden):
    assert Data([golden / STORES[store]], keep=False).refresh().notes == ()


@pytest.mark.parametrize("store", ["twice", "demo"])
def test_the_history_of_a_golden_store_has_the_steps_that_it_had(store, run):
    expected = cells_of(read_expected(store, "words")["history"])
    found = cells_of(run(f"history --store {store}"))

    rows = zip(expected, found, strict=True)
    assert [cell for was, now in rows for cell in was if cell not in now] == []


@pytest.mark.parametrize("store", ["twice", "demo"])
def test_the_history_of_a_golden_store_counts_the_cells_that_it_had(store, run):
    was, now = read_expected(store, "words")["history"], run(f"history --store {store}")

    assert now.splitlines()[-1].strip() == was.splitlines()[-1].strip()


# Comparing


@pytest.mark.parametrize(("store", "words"), every("compare"))
def test_golden_records_are_compared_as_they_were(store, words, run):
    found = json.loads(run(f"compare {words} --store {store} --format json"))
    expected = read_expected(store, "compare")[words]["json"]

    assert list(differences(expected | {"cases": unpacked(expected["cases"])}, found)) == []


@pytest.mark.parametrize(("store", "words"), every("compare"))
def test_the_markdown_of_golden_records_that_are_compared_is_what_it_was(store, words, run):
    text = run(f"compare {words} --store {store} --format md")
    expected = read_expected(store, "compare")[words]["md"]

    assert list(differences(markdown_tables(expected), markdown_tables(text))) == []


def test_a_golden_gate_holds_what_it_held(gate):
    written = json.loads((FOLDER / GATE / "gate.json").read_text())
    del written["schema_version"]

    assert list(differences(written, gate.model_dump(mode="json"))) == []


def test_the_comment_on_a_golden_gate_is_what_it_was(gate):
    expected = read_expected("gate", "words")["comment"]

    assert list(differences(markdown_tables(expected), markdown_tables(comment(gate)))) == []


def test_the_golden_selftest_tells_what_a_machine_sees():
    found = [[*name, seen] for name, seen in read_sees(Store(FOLDER / "gate")).items()]

    assert found == read_expected("gate", "words")["sees"]


# Looking after stores


@pytest.mark.parametrize("store", STORES)
def test_a_golden_store_is_found_fine(store, run):
    assert run(f"store verify --store {STORES[store]}") == read_expected(store, "words")["verify"]


@pytest.mark.parametrize("store", STORES)
def test_nothing_of_a_golden_store_needs_mending(store, tmp_path, run):
    copy = shutil.copytree(FOLDER / STORES[store], tmp_path / "store")

    assert run(f"store repair --store '{copy}'") == "Nothing to mend.\n"


def test_golden_stores_are_merged_into_one_that_is_fine(run, tmp_path):
    run(f"merge cpu twice encoder -o '{tmp_path / 'merged'}'")

    told = run(f"store verify --store '{tmp_path / 'merged'}'")
    assert told.splitlines()[-1] == "4 sweeps, 19 good records: all fine"


# Baselines


@pytest.fixture
def check(run, monkeypatch):
    """Gate golden stores by golden baselines, where a machine counts what it counted then."""
    facts = json.loads((FOLDER / "baseline/facts/tiny.json").read_text())
    (sweep,) = (FOLDER / "cpu").glob("*/sweep.json")
    here = read_file(sweep, SweepFile).environment
    monkeypatch.setattr(environment_file, "probe_environment", lambda: here)
    told = json.dumps({"tiny": facts["variants"]})
    monkeypatch.setattr(environment_file, "ask", lambda *words, **options: told)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return lambda more="", exit_code=0: run(
        "check -m tiny -b 1,2 -s 64 --attention reference,sdpa --device cpu --baselines baseline "
        f"{more}",
        exit_code,
    )


def test_the_golden_facts_are_what_is_expected(check):
    assert check() == "1 models, 2 variants: as expected\n"


@pytest.mark.parametrize(("name", "store", "exit_code"), [("cpu", "twice", 0), ("demo", "demo", 1)])
def test_a_golden_baseline_judges_golden_records_as_it_did(name, store, exit_code, check, tmp_path):
    check(f"--baseline {name} --store {store} --json '{tmp_path / 'found.json'}'", exit_code)
    found = json.loads((tmp_path / "found.json").read_text())

    assert list(differences(read_expected("baseline", name), found)) == []


def test_golden_baselines_are_listed_as_they_were(run):
    expected = read_expected("baseline", "words")["list"]

    assert run("baseline list --baselines baseline") == expected


def test_a_golden_word_on_what_may_be_slower_is_read():
    (word,) = read_accepted(FOLDER / "baseline" / "accepted.json")

    assert (word.case, word.up_to, word.author) == ("tiny b2 64px", 1.06, "Ada")


def test_a_golden_session_can_join_its_baseline_again(run, tmp_path):
    copy = shutil.copytree(FOLDER / "baseline", tmp_path / "baseline")

    told = run(f"baseline save cpu --store cpu --baselines '{copy}'")
    assert told == f"1 sessions, 8 cases in {copy / 'cpu.json'}\n"


# A sweep that was not finished


@pytest.fixture
def unfinished(golden):
    """A store of a sweep that stopped before its end, and the sweep."""
    store = Store(golden / "cpu")
    (sweep_id,) = store.sweep_ids()
    sweep = read_file(store.path / sweep_id / "sweep.json", SweepFile)
    end = store.path / sweep_id / "end.json"
    kept = end.read_bytes()
    end.unlink()
    yield store, sweep
    end.write_bytes(kept)


def test_an_unfinished_sweep_is_resumed_by_the_code_that_began_it(unfinished):
    store, sweep = unfinished

    assert resumed_sweep(store, sweep) == sweep
    assert why_not_resumed(store, sweep) is None


def test_other_code_says_why_it_does_not_resume_an_unfinished_sweep(unfinished):
    store, sweep = unfinished
    environment = sweep.environment.model_copy(update={"source_sha256": "other"})
    new = sweep.model_copy(update={"definition_sha256": "other", "environment": environment})

    assert resumed_sweep(store, new) is None
    assert why_not_resumed(store, new) == (
        f"Sweep {sweep.sweep_id} of the same cases is unfinished and not resumed, since these have "
        "changed: source_sha256. A new sweep begins."
    )
