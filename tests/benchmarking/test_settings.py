"""From flags or a TOML file to a sweep and a plan, with notes of what was changed."""

from __future__ import annotations

import pytest

from benchmarking.choices.settings import parse_gpu_model, parse_sweep
from benchmarking.choices.sweep import QUICK, VOCABULARY, Sweep
from benchmarking.measuring.passes.table import PASSES, default_passes
from results.hardware.specs import SPECS
from results.records.case import TimingPlan


def test_nothing_asked_is_the_default_sweep_and_plan():
    assert parse_sweep({}) == (Sweep(), TimingPlan(passes=default_passes()), [])


def test_quick_changes_the_plan_alone():
    assert parse_sweep({}, quick=True) == (
        Sweep(),
        TimingPlan(passes=default_passes(), **QUICK),
        [],
    )


def test_a_setting_wins_over_quick():
    _, plan, _ = parse_sweep({"warmup_s": "7"}, quick=True)

    assert plan.warmup_s == 7.0


# Good values


@pytest.mark.parametrize(
    ("value", "sizes"),
    [
        ("8", (8,)),
        ("1,2,4", (1, 2, 4)),
        (" 1 , 2 ", (1, 2)),
        ("1..64", (1, 2, 4, 8, 16, 32, 64)),
        ("3..20", (3, 6, 12)),
        ("4..4", (4,)),
        ("1..2,8", (1, 2, 8)),
        ([1, "2..4"], (1, 2, 4)),
        (16, (16,)),
        ("1000000", (1_000_000,)),
    ],
)
def test_batch_sizes_are_numbers_lists_and_ranges_that_double(value, sizes):
    assert parse_sweep({"batch_size": value})[0].batch_size == sizes


def test_values_that_stand_twice_are_measured_once_and_a_note_says_so():
    asked, _, notes = parse_sweep({"batch_size": "1,1,2", "model": "tiny,tiny"})

    assert (asked.batch_size, asked.model) == ((1, 2), ("tiny",))
    assert notes == [
        f"--{name}: values that stand twice are measured once" for name in ("batch-size", "model")
    ]


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_word_of_a_vocabulary_is_taken(name):
    asked, _, _ = parse_sweep({name: ",".join(VOCABULARY[name])})

    assert getattr(asked, name) == tuple(VOCABULARY[name])


def test_passes_are_put_in_their_order():
    _, plan, _ = parse_sweep({"passes": ",".join(reversed(PASSES))})

    assert plan.passes == tuple(PASSES)


def test_passes_that_take_long_are_measured_only_where_they_are_named():
    assert set(PASSES) - set(parse_sweep({})[1].passes) == {"mask_generator", "energy", "kernels"}


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_that_is_named_is_measured_alone(name):
    assert parse_sweep({"passes": name})[1].passes == (name,)


@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_prompts_are_points_or_boxes(kind):
    assert parse_sweep({"prompts": kind})[1].prompts == kind


@pytest.mark.parametrize("name", ["prompts_per_image", "points_per_side"])
@pytest.mark.parametrize("value", ["7", 7])
def test_prompts_and_points_are_counted(name, value):
    assert getattr(parse_sweep({name: value})[1], name) == 7


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 2.0), ("0.5", 0.5), (".5", 0.5), ("1e2", 100.0), ("+3.", 3.0)]
)
def test_seconds_are_read_from_text(text, seconds):
    assert parse_sweep({"warmup_s": text})[1].warmup_s == seconds


# Kinds of GPU

KINDS = {
    "l4": "L4", "L4": "L4", "NVIDIA L4": "L4", "nvidia l40s": "L40S", "h100 pcie": "H100 PCIe",
    "H100-PCIe": "H100 PCIe", "PCIe H100": "H100 PCIe", "A100 80G": "A100 80GB", "any": "any",
    "ANY": "any", "cpu": "cpu", "CPU": "cpu",
}  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), KINDS.items())
def test_a_kind_is_spelled_as_the_table_of_peaks_has_it(text, kind):
    assert parse_gpu_model(text) == kind


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("write", [str, str.lower, str.upper, "NVIDIA {}".format])
def test_every_row_of_the_table_of_peaks_is_a_kind(name, write):
    assert parse_gpu_model(write(name)) == name


@pytest.mark.parametrize("text", ["RTX 5090", "MI300X", "Apple_M5", "L4.24"])
@pytest.mark.parametrize("write", [str, str.lower, str.upper])
def test_a_kind_that_the_table_lacks_is_the_same_however_it_is_written(text, write):
    assert parse_gpu_model(write(text)) == text.upper()


@pytest.mark.parametrize("value", ["l4, NVIDIA H200,cpu", ["L4", "h200", "CPU"]])
def test_kinds_are_a_list_as_any_axis_is(value):
    assert parse_sweep({"gpu": value})[0].gpu == ("L4", "H200", "cpu")


def test_a_kind_by_two_names_is_measured_once_and_a_note_says_so():
    asked, _, notes = parse_sweep({"gpu": "l4,NVIDIA L4"})

    assert asked.gpu == ("L4",)
    assert notes == ["--gpu: values that stand twice are measured once"]


# Encoders that are not ours


def test_an_encoder_stands_among_the_models():
    asked, _, _ = parse_sweep({"encoder": "a.b:f,c:g", "model": "tiny"})

    assert asked.model == ("tiny", "a.b:f", "c:g")


@pytest.mark.parametrize("settings", [{"encoder": "a.b:f"}, {"model": "a.b:f"}])
def test_an_encoder_alone_is_the_only_model(settings):
    assert parse_sweep(settings)[0].model == ("a.b:f",)


@pytest.mark.parametrize("value", [["a.b:f", "c:g"], ("a.b:f", "c:g"), "a.b:f, c:g"])
def test_encoders_are_a_list_as_any_axis_is(value):
    assert parse_sweep({"encoder": value})[0].model == ("a.b:f", "c:g")


def test_an_encoder_that_stands_twice_is_measured_once_and_a_note_says_so():
    asked, _, notes = parse_sweep({"encoder": "a:f", "model": ["a:f", "tiny"]})

    assert asked.model == ("a:f", "tiny")
    assert notes == ["--model: values that stand twice are measured once"]
