"""A recommendation in words: its table, its sentences, and what was not measured yet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarking.choices.execution import EXECUTIONS
from benchmarking.choices.precision import PRECISIONS
from benchmarking.views import recommend_views
from benchmarking.views.printing import markdown
from benchmarking.views.recommend_views import recommendation_view
from results.answers.recommend import Requirements, recommend
from results.records.measurement import EmbeddingError, Memory
from results.records.schema import Check
from results.tables.frames import case_frame
from sam.attention.variants import ATTENTION
from sam.families import FAMILIES
from sam.sam1.family import SAM1

EARLIER = "2024-01-01T00:00:00Z"
MIB = 2**20
NOT_MEASURED = "Not measured on this device: "


@pytest.fixture
def timed(make_record):
    """Maker of records whose forwards take so long; names of a measurement's fields change it."""

    def make(image_ms=10.0, size=1, memory=None, embedding_error=None, **changes):
        record = make_record(batch_size=size, **changes)
        if record.measurement is None:
            return record
        latency = record.measurement.latency.model_copy(
            update={"forward_s": (size * image_ms * 1e-3,) * 12}
        )
        fields = {"latency": latency, "memory": memory, "embedding_error": embedding_error}
        measurement = record.measurement.with_passes(**fields)
        return record.model_copy(update={"measurement": measurement})

    return make


@pytest.fixture
def on_gpu(make_gpu_environment):
    """Changes of a record that make it one of a GPU."""
    return {"device": "cuda:0", "environment": make_gpu_environment("9.0")}


@pytest.fixture
def pair(timed):
    """What is recommended, and another way that takes twice as long."""
    return [timed(10), timed(20, attention="sdpa")]


def view_of(records, precisions=("fp32",), **wanted):
    asked = Requirements("tiny", image_size=64, precisions=precisions, **wanted)
    cases = case_frame(records)
    return recommendation_view(recommend(cases, asked), asked, cases)


def table(records, **wanted):
    """Cells by the first of their row."""
    return {name: cells for name, *cells in view_of(records, **wanted).rows}


def sentences(records, **wanted):
    return view_of(records, **wanted).sentences


def missing(records, **wanted):
    """What is named as not measured."""
    said = [each for each in sentences(records, **wanted) if each.startswith(NOT_MEASURED)]
    assert len(said) <= 1
    return said[0].removeprefix(NOT_MEASURED).removesuffix(".").split(", ") if said else []


# The table


def test_a_title_names_model_size_and_cpu(pair):
    assert view_of(pair).title == "tiny at 64 px on a CPU"


def test_a_title_names_the_gpu_where_it_is_one(timed, on_gpu):
    assert view_of([timed(**on_gpu)]).title == "tiny at 64 px on a GPU"


def test_the_runner_up_stands_beside_what_is_recommended(pair):
    assert view_of(pair).headings == ["what", "recommended", "runner-up"]
    assert table(pair)["attention"] == ["reference", "sdpa"]


def test_without_a_runner_up_there_is_no_column_for_it(timed):
    view = view_of([timed()])

    assert view.headings == ["what", "recommended"]
    assert {len(row) for row in view.rows} == {2}


def test_rows_tell_the_way_its_speed_and_when_it_was_measured(timed):
    assert table([timed(250), timed(500, attention="sdpa")]) == {
        "batch_size": ["1", "1"],
        "precision": ["fp32", "fp32"],
        "attention": ["reference", "sdpa"],
        "execution": ["eager", "eager"],
        "per image [ms]": ["250", "500"],
        "images/s": ["4", "2"],
        "median [ms]": ["250", "500"],
        "p90 [ms]": ["250", "500"],
        "first forward [s]": ["1", "1"],
        "n": ["12", "12"],
        "started_at": ["2025-01-02T03:04:05Z", "2025-01-02T03:04:05Z"],
    }


def test_what_was_measured_of_memory_and_error_has_rows(timed):
    memory = Memory(source="made up", weights_bytes=1, peak_bytes=512 * MIB, rise_bytes=1)
    error = EmbeddingError(relative_l2=0.25, max_abs=1.0)
    rows = table([timed(memory=memory, embedding_error=error)])

    assert rows["peak memory [MiB]"] == ["512"]
    assert rows["embedding error"] == ["0.25"]


def test_what_one_of_the_two_has_alone_is_a_dash_at_the_other(timed):
    memory = Memory(source="made up", weights_bytes=1, peak_bytes=512 * MIB, rise_bytes=1)
    rows = table([timed(10, memory=memory), timed(20, attention="sdpa")])

    assert rows["peak memory [MiB]"] == ["512", "-"]


def test_the_table_is_of_the_recommended_batch_and_not_of_the_fastest(timed):
    assert table([timed(10.2, 1), timed(10, 8)])["batch_size"] == ["1"]


def test_a_recommendation_can_be_written_as_markdown(pair):
    lines = markdown(view_of(pair)).splitlines()

    assert lines[0] == "**tiny at 64 px on a CPU**"
    assert "| attention | reference | sdpa |" in lines


# Sentences


def test_a_larger_batch_that_gives_a_little_more_is_told(timed):
    said = sentences([timed(10.2, 1), timed(10, 8)])

    assert "Batch 8 gives 2.0 % more images a second, for forwards of 80 ms." in said


def test_where_the_recommended_is_the_fastest_no_other_batch_is_told(pair):
    assert not any(each.startswith("Batch ") for each in sentences(pair))


def test_how_many_times_as_long_the_runner_up_takes_is_told(pair):
    assert "An image takes the runner-up 2.000 times as long." in sentences(pair)


def test_the_runner_up_s_time_is_that_of_an_image_whatever_its_batch(timed):
    said = sentences([timed(10, 1), timed(15, 4, attention="sdpa")])

    assert "An image takes the runner-up 1.500 times as long." in said


def test_without_a_runner_up_nothing_is_said_of_it(timed):
    assert not any("takes the runner-up" in each for each in sentences([timed()]))


def test_the_confidence_is_told_with_its_doubts(pair):
    assert sentences(pair)[1] == (
        "Confidence: medium (one sweep measured it; no larger batch was measured, and one may be "
        "faster)."
    )


def test_grave_doubts_are_told_before_slight_ones(timed):
    checks = {"spread": Check(value=1.0, limit="a limit", verdict="warn")}
    smaller = timed(11, 2, is_synthetic=True)
    said = sentences([timed(checks=checks, is_synthetic=True), smaller])

    assert (
        "Confidence: low (its record is made up, for a demonstration; no other way was measured; "
        "one sweep measured it; some of its self-checks warn)." in said
    )


def test_a_high_confidence_has_nothing_in_brackets(timed, pair):
    again = timed(10, sweep_id="before", started_at=EARLIER)

    assert "Confidence: high." in sentences([*pair, again, timed(11, 2)])


def test_the_records_that_are_evidence_are_named(pair):
    one, other = (f"{each.sweep_id}/{each.case_id}" for each in pair)

    assert f"Evidence: {one}, {other}." in sentences(pair)


def test_without_a_runner_up_one_record_is_the_evidence(timed):
    record = timed()

    assert f"Evidence: {record.sweep_id}/{record.case_id}." in sentences([record])


def test_where_nothing_keeps_the_latency_the_first_sentence_says_so(pair):
    assert sentences(pair, latency_s=0.0015)[0] == (
        "Nothing that was measured keeps 1.5 ms: this comes nearest."
    )


@pytest.mark.parametrize("latency_s", [None, 0.015])
def test_where_the_latency_is_kept_nothing_is_said_of_it(pair, latency_s):
    assert not any("keeps" in each for each in sentences(pair, latency_s=latency_s))


# What was not measured


@pytest.fixture
def gpus_alone(monkeypatch):
    """An attention that a GPU alone can do."""
    reason = {"cpu": "needs a GPU"}
    variant = replace(ATTENTION["sdpa"], why_unsupported=lambda device, dtype: reason.get(device))
    monkeypatch.setitem(ATTENTION, "for GPUs", variant)
    return "for GPUs"


def test_what_was_measured_is_not_named(pair):
    assert not {"fp32", "reference", "sdpa", "eager"} & set(missing(pair))


def test_an_attention_that_the_device_can_not_do_is_not_named(timed, on_gpu, gpus_alone):
    assert gpus_alone in missing([timed(**on_gpu)])
    assert gpus_alone not in missing([timed()])


def test_an_execution_that_the_device_can_not_do_is_not_named(timed, on_gpu):
    assert "cudagraphs" in missing([timed(**on_gpu)])
    assert "cudagraphs" not in missing([timed()])


def test_a_precision_that_the_device_can_not_do_is_not_named(timed, on_gpu):
    precisions = ("fp32", "tf32")

    assert "tf32" in missing([timed(**on_gpu)], precisions=precisions)
    assert "tf32" not in missing([timed()], precisions=precisions)


def test_an_execution_that_needs_another_precision_is_not_named(timed, monkeypatch):
    reason = {"bf16": "runs in fp32 alone"}
    execution = replace(
        EXECUTIONS["eager"], why_unsupported=lambda device, precision: reason.get(precision)
    )
    monkeypatch.setitem(EXECUTIONS, "exact", execution)

    assert "exact" in missing([timed()])
    assert "exact" not in missing([timed(precision="bf16")], precisions=("bf16",))


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_precision_that_may_not_be_chosen_is_not_named(timed, on_gpu, name):
    allowed = tuple(each for each in PRECISIONS if each != name)
    record = timed(precision=allowed[0], **on_gpu)

    assert name not in missing([record], precisions=allowed)
    assert set(allowed[1:]) <= set(missing([record], precisions=allowed))


@pytest.mark.parametrize(
    "changes",
    [{"model": "vit_b"}, {"image_size": 128}, {"status": "oom"}],
    ids=lambda changes: next(iter(changes)),
)
def test_another_model_or_size_or_a_failure_is_no_measurement(timed, changes):
    assert "sdpa" in missing([timed(), timed(attention="sdpa", **changes)])


def test_what_was_measured_on_a_gpu_is_not_measured_on_the_cpu(timed, on_gpu):
    records = [timed(20), timed(attention="sdpa", **on_gpu)]

    assert "sdpa" in missing(records, gpu="cpu")
    assert "reference" in missing(records, gpu="a GPU")


def test_where_all_was_measured_nothing_is_said_of_it(timed, monkeypatch):
    family = replace(SAM1, attention={"reference": ATTENTION["reference"]})
    monkeypatch.setitem(FAMILIES, "sam1", family)
    monkeypatch.setattr(recommend_views, "EXECUTIONS", {"eager": EXECUTIONS["eager"]})

    assert missing([timed()]) == []
