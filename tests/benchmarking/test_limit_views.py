"""What figures mean in words: how far from its limits a case is, and why a larger batch helped."""

from __future__ import annotations

import re

import pytest

from benchmarking.views.limit_views import BOUND_SENTENCES, CAUSE_NAMES, HELD_BY, how_much
from benchmarking.views.printing import markdown
from benchmarking.views.views import VIEWS
from results.answers.batching import CAUSES
from results.records.measurement import Modules, Work
from results.records.schema import Check

MS = 1e-3
# On the made-up GPU, which does 1 TFLOP/s and moves 1 TB/s, in ms of an image:
COMPUTES = {"kind": "window", "flops": 4e9, "image_bytes": 1e8}  # 4
WAITS = {"kind": "norm", "flops": 1e8, "image_bytes": 1e9, "weights_bytes": 2e9}  # 1 + 2 / batch
HALF = {"efficiency": lambda batch_size: 0.5}
LAUNCHES = {"launch_s": 40 * MS}
GHZ = 1_000_000_000


def views(by, records, peaks=()):
    show = VIEWS[by]
    return show.views(show.frame(records, dict(peaks)))


def sentences(by, records):
    return [sentence for view in views(by, records) for sentence in view.sentences]


def columns(view):
    """A table's columns by their heading, in one line each."""
    headings = [heading.replace("\n", " ") for heading in view.headings]
    return dict(zip(headings, zip(*view.rows, strict=True), strict=True))


def told(sentence):
    """A sentence with # in the place of its figures, and these."""
    figure = r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.sub(figure, "#", sentence), [float(each) for each in re.findall(figure, sentence)]


def with_changes(record, **changes):
    """The record with other results of passes."""
    return record.model_copy(update={"measurement": record.measurement.with_passes(**changes)})


# How far from the limit


def test_a_case_is_a_row_with_its_floor(measured):
    table = columns(views("limits", measured([COMPUTES], (1, 4), HALF))[0])

    assert table == {
        "batch_size": ("1", "4"),
        "per image [ms]": ("8", "8"),
        "achieved [TFLOP/s]": ("0.5000", "0.5000"),
        "MFU, measured [%]": ("50", "50"),
        "floor [ms/image]": ("4", "4"),
        "times the floor": ("2", "2"),
        "bound by": ("compute", "compute"),
    }


def test_the_table_of_limits_counts_the_self_checks(measured):
    checks = {"spread": Check(value=1.0, limit="", verdict="warn", reason="far apart")}
    view = views("limits", measured([COMPUTES], (1, 4), checks=checks))[0]

    assert view.caption.endswith("; self-checks: 2 made, 2 warn, 0 invalid")


def test_without_roofs_no_share_and_no_floor_is_shown(measured):
    table = columns(views("limits", measured([COMPUTES], (1, 4), roofs=None))[0])

    assert not [heading for heading in table if "MFU" in heading]
    for heading in ("floor [ms/image]", "times the floor", "bound by"):
        assert table[heading] == ("-", "-")


def test_what_the_maker_says_is_shown_where_nothing_was_measured(measured, make_gpu_environment):
    machine = make_gpu_environment("9.0")
    known = machine.model_copy(
        update={"gpus": (machine.gpus[0].model_copy(update={"name": "NVIDIA H200"}),)}
    )
    records = measured([COMPUTES], (1, 4), roofs=None, environment=known)
    table = columns(views("limits", records)[0])

    assert table["bound by"] == ("memory", "memory")  # which reaches 200 FLOP a byte
    assert "MFU, peak [%]" in table
    assert "as its maker says" in sentences("limits", records)[0]


def test_a_case_of_which_nothing_is_known_stands_beside_one_of_which_all_is(measured):
    records = [*measured([COMPUTES], (1,)), *measured([COMPUTES], (4,), roofs=None)]
    table = columns(views("limits", records)[0])

    assert table["bound by"] == ("compute", "-")
    assert table["floor [ms/image]"] == ("4", "-")


def test_a_kind_of_module_is_a_row_of_the_best_case(measured):
    _, kinds = views("limits", measured([COMPUTES, COMPUTES, WAITS], (1, 4)))

    assert kinds.title == "By part: tiny b4 64px bf16 reference eager noise on a GPU"
    assert columns(kinds) == {
        "kind": ("window", "norm"),
        "modules": ("2", "1"),
        "share [%]": ("84.2", "15.8"),  # 32 and 6 ms
        "work [GFLOP]": ("32", "0.4000"),
        "moved [MiB]": ("762.9", "5722"),
        "achieved [TFLOP/s]": ("0.9709", "0.0647"),  # with hooks on
        "MFU [%]": ("97.1", "6.47"),
        "bound by": ("compute", "memory"),
    }


def test_work_that_was_not_counted_is_a_dash_and_no_zero(measured):
    record = measured([COMPUTES], (1,))[0]
    modules = {
        name: timing.model_copy(update={"work": None})
        for name, timing in record.measurement.modules.items()
    }
    _, kinds = views("limits", [with_changes(record, modules=Modules(timings=modules))])
    table = columns(kinds)

    assert {heading: table[heading] for heading in table if "[%]" not in heading} == {
        "kind": ("window",),
        "modules": ("1",),
        "work [GFLOP]": ("-",),
        "moved [MiB]": ("-",),
        "achieved [TFLOP/s]": ("-",),
        "bound by": ("-",),
    }


def test_a_case_without_modules_has_no_table_of_parts(measured):
    (record,) = measured([COMPUTES], (1,))

    assert len(views("limits", [with_changes(record, modules=None)])) == 1


def test_an_encoder_without_a_matrix_product_can_be_shown(measured):
    """Such as one that only pools, whose images stay in the cache."""
    (record,) = measured([COMPUTES], (1,))
    nothing = Work(flops=0, least_flops=0, least_bytes=0, moved_bytes=0)
    table = columns(views("limits", [with_changes(record, flops=nothing, modules=None)])[0])

    assert table["floor [ms/image]"] == ("0",)
    assert table["times the floor"] == ("-",)


# What limits say in words


@pytest.mark.parametrize(
    ("parts", "gpu", "bound"),
    [([COMPUTES], {}, "compute"), ([WAITS], {}, "memory"), ([COMPUTES], LAUNCHES, "launch")],
)
def test_a_sentence_says_what_binds_a_model_at_its_best(measured, parts, gpu, bound):
    (sentence,) = sentences("limits", measured(parts, (1,), gpu))

    assert BOUND_SENTENCES[bound] in sentence
    assert [other for name, other in BOUND_SENTENCES.items() if name != bound] == [
        other for other in BOUND_SENTENCES.values() if other not in sentence
    ]


def test_a_sentence_tells_the_best_case_the_best_possible_and_where_most_time_goes(measured):
    (sentence,) = sentences("limits", measured([COMPUTES, WAITS], (1, 4)))

    words, figures = told(sentence)

    assert words == (
        "tiny at # px in bf16 on a GPU: at best (reference, eager, batch #) an image takes # ms, "
        "# times the best possible, # ms for # GFLOP at # TFLOP/s (measured here). "
        "It is bound by computing. Most of it, # %, is in window modules, bound by compute."
    )
    assert figures == pytest.approx([64, 4, 5.5, 1.34, 4.1, 4.1, 1, 72.7])


def test_without_roofs_a_sentence_says_how_to_get_them(measured):
    (sentence,) = sentences("limits", measured([COMPUTES], (1, 4), roofs=None))

    assert sentence.startswith(
        "tiny at 64 px in bf16 on a GPU: at best (reference, eager, batch 1) "
    )
    assert sentence.endswith("What this device can do is not known: sam-bench doctor --calibrate.")


def test_each_model_precision_and_device_has_its_sentence(measured, make_record):
    records = [
        *measured([COMPUTES], (1, 4)),
        *measured([COMPUTES], (1, 4), precision="fp32", roofs=None),
        make_record(device="cpu"),
    ]

    assert [each.partition(":")[0] for each in sentences("limits", records)] == [
        "tiny at 64 px in bf16 on a GPU", "tiny at 64 px in fp32 on a GPU",
        "tiny at 64 px in fp32 on a CPU",
    ]  # fmt: skip


# What a larger batch changed


def test_a_step_is_a_row_whose_parts_and_causes_are_columns(measured):
    gpu = {"efficiency": {1: 0.5, 2: 0.5, 4: 0.8}.get}
    (view,) = views("batching", measured([COMPUTES, WAITS], (1, 2, 4), gpu))

    table = columns(view)

    assert table.pop("batch") == ("1 -> 2", "2 -> 4")
    assert table.pop("self-checks that warn") == ("0", "0")
    assert {heading: tuple(map(float, cells)) for heading, cells in table.items()} == {
        "before [ms/image]": pytest.approx((11, 10)),
        "after [ms/image]": pytest.approx((10, 6.5)),
        "change [%]": pytest.approx((-9.09, -35)),
        "unattributed [ms]": pytest.approx((0, 0)),
        "window [ms]": pytest.approx((0, -3), abs=1e-9),
        "norm [ms]": pytest.approx((-1, -0.5)),
        "by compute [ms]": pytest.approx((0, -3), abs=1e-9),
        "by memory [ms]": pytest.approx((-1, -0.5)),
    }


def test_a_step_counts_the_self_checks_of_both_its_cases_that_warn(measured):
    warned = {"spread": Check(value=1.0, limit="", verdict="warn", reason="far apart")}
    records = [*measured([WAITS], (1, 2)), *measured([WAITS], (4,), checks=warned)]
    (view,) = views("batching", records)

    assert columns(view)["self-checks that warn"] == ("0", "1")


def test_each_set_of_cases_that_differ_in_the_batch_alone_has_a_table(measured):
    records = [
        *measured([COMPUTES], (1, 4), attention="sdpa"),
        *measured([COMPUTES], (1, 4), attention="reference"),
    ]

    assert [view.title for view in views("batching", records)] == [
        "What a larger batch changed: attention sdpa",
        "What a larger batch changed: attention reference",
    ]


def test_each_of_two_sweeps_has_a_table(measured):
    records = [each for name in ("s1", "s2") for each in measured([WAITS], (1, 4), sweep_id=name)]

    assert [view.title for view in views("batching", records)] == [
        f"What a larger batch changed: sweep_id {name}" for name in ("s1", "s2")
    ]


@pytest.mark.parametrize("by", ["limits", "batching"])
def test_a_store_of_failures_alone_has_no_table(make_record, by):
    assert views(by, [make_record("oom", batch_size=size) for size in (1, 2)]) == []


def test_one_record_alone_has_its_limits_and_no_step(measured):
    records = measured([COMPUTES], (1,))

    assert len(views("limits", records)[0].rows) == 1
    assert views("batching", records) == []


# What steps say in words

WORDS = {
    "launch": ([COMPUTES], LAUNCHES, "# ms gained by launches that serve more images", 35),
    "memory": ([WAITS], {}, "# ms gained by parts that wait for memory", 1.75),
    "compute": (
        [COMPUTES], {"efficiency": {1: 0.5, 8: 0.8}.get}, "# ms gained by parts that compute", 3,
    ),
    "clock": (
        [COMPUTES], {"clock_hz": {1: 2 * GHZ, 8: 1 * GHZ}.get},
        "# ms lost by another clock of the GPU", 4,
    ),
}  # fmt: skip


def test_every_cause_has_its_words():
    assert set(CAUSE_NAMES) == set(CAUSES)
    assert set(HELD_BY) == set(CAUSES) - {"clock"}  # which holds no time of its own


def causes_told(found):
    """What a sentence says of causes."""
    (sentence,) = found
    return told(re.search(r"Of an image, (.*?)\. At batch", sentence)[1])


@pytest.mark.parametrize(("parts", "gpu", "words", "amount"), WORDS.values(), ids=WORDS)
def test_a_sentence_tells_each_cause_with_its_amount(measured, parts, gpu, words, amount):
    found, figures = causes_told(sentences("batching", measured(parts, (1, 8), gpu)))

    assert found == words
    assert figures == pytest.approx([amount])


def test_the_largest_cause_is_told_first(measured):
    gpu = {"efficiency": {1: 0.5, 4: 0.8}.get}
    found, figures = causes_told(sentences("batching", measured([WAITS, COMPUTES], (1, 4), gpu)))

    assert found == "# ms gained by parts that compute, # ms gained by parts that wait for memory"
    assert figures == pytest.approx([3, 1.5])


def test_a_cause_that_is_hardly_there_is_not_told(measured):
    gpu = {"efficiency": {1: 0.1, 4: 1.0}.get}
    (sentence,) = sentences("batching", measured([WAITS, COMPUTES], (1, 4), gpu))

    assert CAUSE_NAMES["memory"] not in sentence


def test_where_nothing_changed_no_cause_is_told(measured):
    (sentence,) = sentences("batching", measured([COMPUTES], (1, 4)))

    assert "Larger batches do not help, 1.00 times as many images a second" in sentence
    assert "Of an image" not in sentence


def test_a_sentence_tells_what_holds_the_smallest_batch_and_which_is_enough(measured):
    (sentence,) = sentences("batching", measured([COMPUTES, WAITS], (1, 2, 4, 8, 16)))

    words, figures = told(sentence.replace("%", " %"))

    assert words.startswith(
        "tiny at # px in bf16, reference, eager, noise on cuda:#: from batch # to # an image takes "
        "# -> # ms. "
        "Larger batches help a little, # times as many images a second; batch # is within # "
    )
    assert figures[:9] == pytest.approx([64, 0, 1, 16, 7, 5.125, 1.37, 8, 5])
    assert sentence.endswith(f" of the time {HELD_BY['compute']}.")


def test_without_roofs_a_sentence_says_that_causes_are_not_known(measured):
    (sentence,) = sentences("batching", measured([WAITS], (1, 4), roofs=None))

    assert "sam-bench doctor --calibrate" in sentence
    assert sentence.endswith(f"{HELD_BY['unknown']}.")


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (2.0, "Larger batches help"),
        (1.5, "Larger batches help"),
        (1.49, "Larger batches help a little"),
        (1.051, "Larger batches help a little"),
        (1.05, "Larger batches do not help"),
        (0.5, "Larger batches do not help"),
    ],
)
def test_help_is_told_by_how_many_more_images_a_second(gain, words):
    assert how_much(gain) == words


# Every sentence

CASES = {
    "launch": ([COMPUTES], LAUNCHES, {}),
    "memory": ([WAITS], {}, {}),
    "compute": ([COMPUTES], HALF, {}),
    "mixed": ([COMPUTES, WAITS], {"clock_hz": {1: 2 * GHZ, 4: 1 * GHZ}.get}, {}),
    "no change": ([COMPUTES], {}, {}),
    "no roofs": ([COMPUTES, WAITS], {}, {"roofs": None}),
    "no telemetry": ([COMPUTES, WAITS], {}, {"telemetry": None}),
}


@pytest.mark.parametrize("by", ["limits", "batching"])
@pytest.mark.parametrize(("parts", "gpu", "changes"), CASES.values(), ids=CASES)
def test_every_sentence_ends_with_a_full_stop_and_holds_no_nan(measured, by, parts, gpu, changes):
    found = sentences(by, measured(parts, (1, 4), gpu, **changes))

    assert found
    for sentence in found:
        assert re.search(r"[^.]\.$", sentence)
        assert not re.search(r"\bnan\b|None|\binf\b", sentence)


@pytest.mark.parametrize("by", ["limits", "batching"])
def test_markdown_ends_with_the_sentences(measured, by):
    view = views(by, measured([COMPUTES, WAITS], (1, 4)))[0]

    assert view.sentences
    assert markdown(view).endswith("\n\n".join(["", *view.sentences]))
