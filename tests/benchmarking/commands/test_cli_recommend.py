"""`sam-bench recommend`: what it answers in each form, what it refuses, and what it passes over."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from benchmarking.cli import main
from benchmarking.demo import demo
from results.records.store import Store

ASK = "recommend -m tiny -s 64"
FORMS = ("table", "json", "md")
HOSTILE = "\x1b]0;title\x07\x9b31m\u202e[bold]</x>|`a`\r\nError: not so"


@pytest.fixture
def timed(make_record):
    """Maker of records of twelve forwards that take so long an image."""

    def make(image_ms=10.0, size=1, **changes):
        record = make_record(batch_size=size, **changes)
        latency = record.measurement.latency.model_copy(
            update={"forward_s": (size * image_ms * 1e-3,) * 12}
        )
        measurement = record.measurement.with_passes(latency=latency)
        return record.model_copy(update={"measurement": measurement})

    return make


@pytest.fixture
def two_ways(timed, make_store):
    """A store of two ways on a CPU: sdpa takes 10 ms an image, the reference 20."""
    records = [timed(20, size) for size in (1, 2)]
    return make_store(*records, *(timed(10, size, attention="sdpa") for size in (1, 2)))


@pytest.fixture
def hostile(timed, make_store, make_gpu_environment):
    """A store of which every name is hostile that a record's writer can choose."""
    environment = make_gpu_environment("9.0")
    gpu = environment.gpus[0].model_copy(update={"name": HOSTILE})
    where = environment.model_copy(
        update={"gpus": (gpu,), "cpu": "\x1b[31ma CPU\x07", "torch": HOSTILE, "hostname": HOSTILE}
    )
    names = {"execution": HOSTILE, "started_at": HOSTILE, "environment": where, "device": "cuda:0"}
    other = {"model": HOSTILE, "device": "cpu", "environment": where}
    return make_store(
        timed(attention=HOSTILE, **names), timed(20, attention="sdpa", **names), timed(**other)
    )


def harmless(text):
    """Whether a text holds nothing but lines of what can be printed."""
    return all(line.isprintable() for line in text.split("\n"))


# What it answers


def test_a_table_tells_the_way_and_sentences_how_sure_it_is(invoke, two_ways):
    result = invoke(ASK)

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("tiny at 64 px on a CPU")
    assert re.search(r"│ attention +│ +sdpa │ +reference │", result.stdout)
    assert "\nAn image takes the runner-up 2.000 times as long.\nConfidence: " in result.stdout


def test_json_is_in_base_units_with_its_doubts_and_its_record(invoke, two_ways):
    answer = json.loads(invoke(f"{ASK} --format json").stdout)
    (record,) = (
        each
        for each in two_ways.read().records
        if (each.case.attention, each.case.batch_size) == ("sdpa", 1)
    )

    assert answer == {
        "batch_size": 1, "precision": "fp32", "attention": "sdpa", "execution": "eager",
        "image_s": 0.01, "median_s": 0.01, "images_per_s": pytest.approx(100),
        "keeps_latency": True, "confidence": "medium", "doubts": ["one sweep measured it"],
        "record": f"{record.sweep_id}/{record.case_id}",
    }  # fmt: skip


def test_markdown_has_a_title_a_table_and_a_paragraph_a_sentence(invoke, two_ways):
    lines = invoke(f"{ASK} --format md").stdout.splitlines()

    assert lines[:4] == [
        "**tiny at 64 px on a CPU**", "", "| what | recommended | runner-up |",
        "| --- | --- | --- |",
    ]  # fmt: skip
    assert "An image takes the runner-up 2.000 times as long." in lines


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_said_on_stderr_where_all_is_well(invoke, two_ways, form):
    assert invoke(f"{ASK} --format {form}").stderr == ""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("latency", "code"), [("10ms", 0), ("0.01s", 0), ("1 s", 0), ("9ms", 3)])
def test_the_exit_code_tells_whether_the_latency_is_kept(invoke, two_ways, form, latency, code):
    result = invoke(f"{ASK} --format {form} --latency '{latency}'")

    assert result.exit_code == code
    assert "sdpa" in result.stdout


def test_where_no_latency_is_kept_json_says_so(invoke, two_ways):
    answer = json.loads(invoke(f"{ASK} --format json --latency 9ms").stdout)

    assert answer["keeps_latency"] is False


def test_all_sweeps_of_the_store_are_asked(invoke, two_ways, make_store, timed):
    make_store(timed(5, attention="fold", sweep_id="20240101-000000-abcdef"))
    answer = json.loads(invoke(f"{ASK} --format json").stdout)

    assert answer["attention"] == "fold"


# Which precisions


@pytest.fixture
def precise(timed, make_store):
    """A store where the coarser a precision, the faster."""
    order = ("fp32", "bf16", "fp16", "fp8", "int8")
    return make_store(*(timed(50 - 5 * n, precision=name) for n, name in enumerate(order)))


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("", "fp16"),
        ("--approximate", "int8"),
        ("-p fp32", "fp32"),
        ("-p fp32,bf16", "bf16"),
        ("--precision fp8", "fp8"),
        ("-p bf16,bf16", "bf16"),
    ],
)
def test_exact_precisions_may_be_chosen_and_others_where_asked(invoke, precise, flags, precision):
    answer = json.loads(invoke(f"{ASK} --format json {flags}").stdout)

    assert answer["precision"] == precision


# What it refuses


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("-p bf17", r"'bf17' is no precision for --precision\. Did you mean 'bf16'\?"),
        ("-p fp32,fp17", r"'fp17' is no precision for --precision\. Did you mean"),
        ("-p xyz", r"'xyz' is no precision .*\. Known: fp32, tf32, bf16, "),
        ("-p ''", r"'' is no precision for --precision\. Known: fp32, "),
        ("-p fp32,", r"'' is no precision for --precision\."),
        ("--latency 200", r"must be a number above 0 with its unit, as 200ms or 0\.2s, got '200'"),
        ("--latency 0ms", "'--latency': must be a number above 0 .* got '0ms'"),
        ("--latency 0.000s", "'--latency': must be a number above 0"),
        ("--latency=-5ms", "'--latency': must be a number above 0 .* got '-5ms'"),
        ("--latency nan", "'--latency': must be a number above 0"),
        ("--latency infs", "'--latency': must be a number above 0"),
        ("--latency 1e3ms", "'--latency': must be a number above 0"),
        ("--latency 5us", "'--latency': must be a number above 0"),
        ("--latency 5MS", "'--latency': must be a number above 0"),
        ("--latency ''", "'--latency': must be a number above 0"),
        ("--latency \uff15ms", "'--latency': must be a number above 0"),
        ("--latency 1,5ms", "'--latency': must be a number above 0"),
        (f"--latency {'9' * 400}s", "'--latency': must be a number above 0"),
        ("--latency 5ms\n", "'--latency': must be a number above 0"),
        ("-s 0", "'--image-size': 0 is not in the range 16<=x<=65536"),
        ("-s 15", "'--image-size': 15 is not in the range"),
        ("-s 99999999999999999999", "'--image-size'"),
        ("-s 1e3", "'--image-size'"),
        ("--format csv", "'csv' is not one of 'table', 'json', 'md'"),
        ("--store gone", "'gone' has no records: measure some with: sam-bench quickstart"),
        ("--store empty", "'empty' has no records: measure some with: sam-bench quickstart"),
        ("--store /", "--store must be a folder of its own"),
        ("-m tinny", "Of a CPU the store has no record of tinny at 64 px, but of tiny at 64:"),
        ("-s 128", "Of a CPU the store has no record of tiny at 128 px, but of tiny at 64:"),
        ("-p bf16", "Of a CPU the store has tiny in fp32 alone: let one of these be chosen"),
        ("--gpu L4", "The store has no record of a GPU 'L4', but of a CPU: measure there with"),
    ],
)
def test_a_mistake_is_one_line(invoke, two_ways, mistake, tmp_path, flags, line):
    (tmp_path / "empty").mkdir()

    assert re.search(line, mistake(invoke(ASK, *shlex.split(flags.replace("\n", "'\n'")))))


def test_a_mistake_writes_nothing(invoke, two_ways, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for flags in ("--store gone", "-p x", "-s 128", "--latency 1"):
        invoke(f"{ASK} {flags}")

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flag", ["--gpu", "--model", "--precision", "--latency"])
def test_what_a_person_typed_can_not_drive_the_terminal(invoke, two_ways, mistake, flag):
    assert mistake(invoke(ASK, flag, HOSTILE)).isprintable()


@pytest.mark.parametrize("flag", ["--gpu", "--model", "--precision"])
def test_what_a_person_typed_is_cut_where_it_is_long(invoke, two_ways, mistake, flag):
    assert len(mistake(invoke(ASK, flag, "n" * 100_000))) < 1100


def test_a_store_of_several_devices_asks_for_one(
    invoke, two_ways, timed, make_store, mistake, here
):
    make_store(timed(environment=here.model_copy(update={"cpu": "another"}), sweep_id="2"))

    assert mistake(invoke(ASK)) == (
        "Error: The store has records of a CPU, another: name one with --gpu."
    )


def test_a_store_of_failures_alone_has_no_good_record(invoke, make_store, make_record, mistake):
    make_store(make_record("oom"), make_record("crashed", batch_size=4))

    assert mistake(invoke(ASK)) == "Error: The store has no good record of a forward."


def test_a_sweep_that_measured_nothing_yet_has_no_good_record(
    invoke, make_store, make_case, mistake
):
    make_store(not_run=(make_case(),))

    assert mistake(invoke(ASK)) == "Error: The store has no good record of a forward."


# Stores that are broken or hostile


def test_a_broken_file_is_named_and_the_rest_is_asked(invoke, two_ways):
    path = two_ways.case_path(two_ways.sweep_ids()[0], "0123")
    path.write_text("{")
    result = invoke(f"{ASK} --format json")

    assert result.exit_code == 0
    assert result.stderr.startswith("passed over runs/")
    assert len(result.stderr.splitlines()) == 1
    assert json.loads(result.stdout)["attention"] == "sdpa"


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 200_000, '{"schema_version": 999}'])
def test_a_store_of_broken_records_alone_has_no_good_record(invoke, two_ways, mistake, text):
    for path in two_ways.path.glob("*/cases/*.json"):
        path.write_text(text)
    result = invoke(ASK)

    assert mistake(result) == "Error: The store has no good record of a forward."
    assert result.stderr.count("passed over ") == 4


def test_a_broken_plan_of_a_sweep_loses_none_of_its_records(invoke, two_ways):
    (two_ways.path / two_ways.sweep_ids()[0] / "sweep.json").write_text("{")

    assert invoke(ASK).exit_code == 0


def test_a_pipe_in_place_of_a_record_is_passed_over(invoke, two_ways):
    os.mkfifo(two_ways.path / two_ways.sweep_ids()[0] / "cases" / "0123456789abcdef.json")
    result = invoke(ASK)

    assert result.exit_code == 0
    assert "passed over" in result.stderr


@pytest.mark.parametrize(
    "form",
    [
        "table",
        "json",
        "md",
    ],
)
def test_names_of_records_can_not_drive_the_terminal(invoke, hostile, form):
    result = invoke(f"{ASK} --format {form}", "--gpu", HOSTILE)

    assert result.exit_code == 0, result.stderr
    assert harmless(result.stdout)


def test_names_of_records_are_no_markup_of_the_terminal(invoke, hostile):
    assert "[bold]</x>" in invoke(f"{ASK} --gpu", HOSTILE).stdout


@pytest.mark.parametrize("flags", ["", "--gpu H200", "-m vit_b --gpu cpu"])
def test_names_of_records_can_not_drive_the_terminal_from_a_mistake(
    invoke, hostile, mistake, flags
):
    assert mistake(invoke(f"{ASK} {flags}")).isprintable()


def test_names_of_records_can_not_end_a_cell_of_markdown(invoke, hostile):
    lines = invoke(f"{ASK} --format md --gpu", HOSTILE).stdout.splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]

    assert {len(row) for row in rows} == {3}


def test_an_answer_in_json_is_as_the_record_has_it(invoke, hostile):
    answer = json.loads(invoke(f"{ASK} --format json --gpu", HOSTILE).stdout)

    assert (answer["attention"], answer["execution"]) == (HOSTILE, HOSTILE)


# For true


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_needs_no_torch(two_ways, tmp_path, form):
    code = """
import sys
from benchmarking.cli import main
main(sys.argv[1:], standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""
    words = [*shlex.split(ASK), "--format", form]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "sdpa" in done.stdout
    assert {name.partition(".")[0] for name in done.stderr.split()} & {"torch", "dash"} == set()


def test_the_example_of_the_help_can_be_typed(invoke, monkeypatch, tmp_path):
    for name, value in (
        ("GPUS", demo.GPUS[-1:]), ("MODELS_SHOWN", ("vit_h",)), ("BATCHES", (1, 4)),
        ("COMMITS", 1),
    ):  # fmt: skip
        monkeypatch.setattr(demo, name, value)
    demo.write_demo(Store(tmp_path / "demo"), seed=0)
    (line,) = re.findall(r"Example:\n\s+sam-bench (.*)", main.commands["recommend"].help)
    result = invoke(line)

    assert result.exit_code == 0, result.stderr
    assert "its record is made up" in result.stdout
