"""A sweep axis is one field on Case: after that edit it works everywhere, and old records too."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "schema_2" / "cpu"
FIELD = """    layout: Annotated[
        str,
        Axis(
            title="Layout",
            help="Memory layout of the images.",
            choices=("contiguous", "channels_last"),
        ),
    ] = "contiguous"

    @property
    def case_id("""
MEASURED = "-m tiny -b 1,2 -s 64 --input noise --passes latency,modules --quick"
FRAMES = """
import json
from pathlib import Path
from dashboards.data import Data
from dashboards.figures.series import newest, series_labels
from dashboards.view import ViewState

data = Data([Path("runs")], keep=False)
data.refresh()
frames = data.frames(ViewState())
cases = frames["cases"]
names = ("cases", "modules", "limits", "capacity")
print(json.dumps({
    "columns": [name for name in names if "layout" in frames[name]],
    "newest": len(newest(cases)),
    "labels": sorted(set(series_labels(newest(cases)))),
}))
"""


@pytest.fixture(scope="module")
def copy(make_copy):
    """The packages with one field more, after a sweep of each of its values."""
    copy = make_copy()
    copy.edit("results/records/case.py", "    @property\n    def case_id(", FIELD)
    for value in ("contiguous", "channels_last"):
        copy.sam_bench(f"sweep {MEASURED} --layout {value}")
    return copy


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_plan_has_a_case_for_each_value(copy):
    text = copy.sam_bench(f"plan {MEASURED} --layout contiguous,channels_last")

    assert text.count("channels_last") == 2
    assert "4 cases to measure" in text


def test_a_sweep_file_may_set_it(copy):
    (copy.folder / "sweep.toml").write_text('layout = ["channels_last"]\nmodel = "tiny"\n')

    assert "channels_last" in copy.sam_bench("plan --config sweep.toml -b 1 -s 64")


def test_the_help_shows_its_flag(copy):
    text = " ".join(copy.sam_bench("sweep --help").split())

    assert "--layout VALUES Memory layout of the images. [default: contiguous]" in text


def test_an_unknown_value_is_refused_with_a_suggestion(copy):
    line = copy.refusal("plan -m tiny --layout channel_last")

    assert "Unknown layout 'channel_last'. Did you mean 'channels_last'?" in line


def test_show_tells_its_values_apart(copy):
    assert "layout" in copy.sam_bench("show cases --sweep all")


def test_an_export_has_its_column(copy):
    rows = table(copy.sam_bench("show cases --sweep all --format csv"))

    assert sorted(row["layout"] for row in rows) == ["channels_last"] * 2 + ["contiguous"] * 2


def test_two_cases_that_differ_only_in_it_are_two_cases(copy):
    rows = table(copy.sam_bench("show cases --sweep all --format csv"))

    assert len({row["case_id"] for row in rows}) == 4


def test_batching_compares_batch_sizes_of_one_value_only(copy):
    rows = table(copy.sam_bench("show batching --sweep all --format csv"))

    assert {row["layout"] for row in rows} == {"contiguous", "channels_last"}


def test_the_dashboard_has_it_in_its_frames_and_tells_lines_apart_by_it(copy):
    told = json.loads(copy.evaluate(FRAMES))

    assert told["columns"] == ["cases", "modules", "limits", "capacity"]
    assert told["newest"] == 4
    assert len(told["labels"]) == 2
    assert any("channels_last" in label for label in told["labels"])


def test_it_can_be_filtered_by_in_the_dashboard(copy):
    code = "from dashboards.view import FILTERS; print(FILTERS['layout'].title)"

    assert copy.evaluate(code) == "Layout\n"


def test_a_report_is_made_of_it(copy):
    copy.sam_bench("report report.html runs")

    assert "channels_last" in (copy.folder / "report.html").read_text()


def test_a_comparison_of_its_values_names_it(copy):
    first, second = sorted(path.parent.name for path in copy.folder.glob("runs/*/sweep.json"))

    text = copy.sam_bench(f"compare {first} {second}")

    assert "layout contiguous, then channels_last" in text


def test_it_is_one_of_the_ways_that_are_recommended(copy):
    answer = json.loads(copy.sam_bench("recommend -m tiny --image-size 64 --format json"))

    assert answer["layout"] in ("contiguous", "channels_last")


def test_records_made_before_it_are_read_and_keep_their_ids(copy):
    shutil.copytree(GOLDEN, copy.folder / "golden", dirs_exist_ok=True)

    rows = table(copy.sam_bench("show cases --format csv --store golden --sweep all"))

    stored = {path.stem for path in GOLDEN.glob("*/cases/*.json")}
    assert {row["case_id"] for row in rows} == stored
    assert {row["layout"] for row in rows} == {"contiguous"}
