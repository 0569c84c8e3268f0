"""Which way of running is recommended, told from made records."""

from __future__ import annotations

import pandas as pd
import pytest

from results.answers.recommend import (
    FEWEST_FOR_P90,
    NoRecordError,
    Requirements,
    is_named,
    recommend,
)
from results.records.case import WAY_AXES
from results.records.schema import STATUSES
from results.tables.frames import case_frame

OTHERS = [status for status in STATUSES if status not in ("ok", "not_run")]
LATER = "2027-01-01T00:00:00Z"
ANOTHER = {"precision": "fp16", "attention": "sdpa", "execution": "compile"}  # by axis of a way


def ask(records, model="vit_b", precisions=("bf16",), **wanted):
    return recommend(case_frame(records), Requirements(model, precisions=precisions, **wanted))


def image_ms(row):
    return pytest.approx(row["image_s"] * 1e3)


def refused(records, **wanted):
    """The message where no record answers."""
    with pytest.raises(NoRecordError) as caught:
        ask(records, **wanted)
    return str(caught.value)


# The fastest way


@pytest.mark.parametrize("axis", WAY_AXES)
@pytest.mark.parametrize("first", [0, 1])
def test_of_two_ways_the_faster_is_recommended(timed, axis, first):
    records = [timed(10), timed(9, **{axis: ANOTHER[axis]})]
    found = ask([records[first], records[1 - first]], precisions=("bf16", "fp16"))

    assert found.row[axis] == ANOTHER[axis]


def test_a_way_is_as_fast_as_an_image_of_its_best_batch(timed):
    found = ask([timed(10, size=1), timed(12, size=1, attention="sdpa"), timed(8, 4, 12)])

    assert (found.row["attention"], found.row["batch_size"]) == ("reference", 4)


def test_where_no_latency_is_wanted_none_is_kept_to(timed):
    assert ask([timed(1e6)]).keeps_latency


def test_the_runner_up_is_the_fastest_case_of_another_way(timed):
    others = [timed(14, 1, attention="sdpa"), timed(12, 8, attention="sdpa"), timed(13, 2)]
    found = ask([timed(10, 4), timed(10.1, 8), *others, timed(20, execution="compile")])

    assert found.runner_up["attention"] == "sdpa"
    assert found.runner_up["batch_size"] == 8


def test_another_batch_size_is_no_runner_up(timed):
    assert ask([timed(10, 1), timed(9, 2)]).runner_up is None


# The batch size


@pytest.mark.parametrize(
    ("times", "size"),
    [
        ({1: 10}, 1),
        ({1: 10, 2: 8, 4: 7.3, 8: 7.2, 16: 7.1}, 4),
        ({1: 10, 2: 8, 4: 7.6, 8: 7.2, 16: 7.1}, 8),
        ({1: 7.4, 2: 8, 4: 7.1, 8: 7.2}, 1),
        ({1: 10, 2: 9.51}, 1),
        ({1: 10, 2: 9.49}, 2),
    ],
    ids=str,
)
def test_the_smallest_batch_within_5_percent_of_the_best_is_recommended(timed, times, size):
    assert ask([timed(each, size) for size, each in times.items()]).row["batch_size"] == size


def test_the_fastest_batch_is_told_beside_a_smaller_one(timed):
    found = ask([timed(10.2, 1), timed(10, 8)])

    assert (found.row["batch_size"], found.fastest["batch_size"]) == (1, 8)


def test_a_smaller_batch_of_another_way_is_not_taken_for_it(timed):
    found = ask([timed(10.1, 1, attention="sdpa"), timed(10, 8)])

    assert (found.row["attention"], found.row["batch_size"]) == ("reference", 8)


def test_the_order_of_the_records_changes_nothing(timed):
    records = [timed(each, size) for size, each in ((1, 10), (2, 8), (4, 7.3), (8, 7.2))]
    records += [timed(9, 2, attention="sdpa")]
    one, other = ask(records), ask(records[::-1])

    assert one.row["case_id"] == other.row["case_id"]
    assert one.fastest["case_id"] == other.fastest["case_id"]
    assert one.runner_up["case_id"] == other.runner_up["case_id"]


# Of several measurements


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("later_ms", [5.0, 20.0])
def test_of_two_measurements_of_the_same_the_newest_counts(timed, later_ms, is_first):
    newer = timed(later_ms, sweep_id="newer", started_at="2026-01-02T00:00:00+00:00")
    older = timed(10, sweep_id="older", started_at="2026-01-01T00:00:00+00:00")
    found = ask([newer, older] if is_first else [older, newer])

    assert found.row["sweep_id"] == "newer"
    assert image_ms(found.row) == later_ms


def test_a_newer_measurement_of_another_batch_size_takes_nothing_away(timed):
    older, newer = timed(9, 4), timed(10, 2, started_at="2026-01-01T00:00:00Z")

    assert ask([older, newer]).row["batch_size"] == 4


# What is left out


@pytest.mark.parametrize(
    "changes",
    [{"model": "vit_l"}, {"image_size": 512}, {"precision": "fp16"}, {"device": "cuda:1"}]
    + [{"status": status} for status in OTHERS if status != "oom"],
    ids=str,
)
def test_what_is_not_asked_for_or_not_good_is_left_out(timed, changes):
    found = ask([timed(10), timed(1, **changes)], gpu="L4")

    assert image_ms(found.row) == 10
    assert found.runner_up is None


def test_what_ran_out_of_memory_later_is_no_longer_recommended(timed):
    full = timed(1, 4, status="oom", measurement=None, started_at=LATER)
    found = ask([timed(10, 2), timed(9, 4), full])

    assert found.row["batch_size"] == 2


def test_what_ran_out_of_memory_before_is_recommended_where_it_fits_now(timed):
    full = timed(1, 4, status="oom", measurement=None)
    found = ask([full, timed(9, 4, started_at=LATER)])

    assert found.row["batch_size"] == 4


def test_where_all_ran_out_of_memory_lately_it_says_so(timed):
    full = timed(1, 4, status="oom", measurement=None, started_at=LATER)

    with pytest.raises(NoRecordError, match="all ran out of memory when they were last tried"):
        ask([timed(9, 4), full])


def test_a_forward_of_no_time_is_left_out(timed):
    found = ask([timed(10), timed(0, attention="sdpa")])

    assert found.row["attention"] == "reference"


def test_ways_that_are_too_slow_for_the_latency_were_measured_all_the_same(timed):
    found = ask([timed(10), timed(30, attention="sdpa")], latency_s=0.025)

    assert found.runner_up is None
    assert "no other way was measured" not in found.grave


def test_a_whole_name_is_that_gpu_alone():
    names = pd.Series(["NVIDIA GeForce RTX 4070", "NVIDIA GeForce RTX 4070 Ti SUPER"])
    cases = pd.DataFrame({"gpu": names})

    assert list(is_named(cases, names, "nvidia geforce rtx 4070")) == [True, False]
    assert list(is_named(cases, names, "4070")) == [True, False]


def test_a_record_without_a_forward_is_left_out(timed, make_measurement):
    without = timed(attention="sdpa", measurement=make_measurement(latency=None))
    found = ask([timed(10), without])

    assert (found.row["attention"], found.runner_up) == ("reference", None)


@pytest.mark.parametrize(
    ("precisions", "chosen"),
    [
        (("bf16",), "bf16"),
        (("fp32",), "fp32"),
        (("fp32", "bf16"), "bf16"),
        (("fp32", "tf32", "bf16", "fp16"), "fp16"),
    ],
)
def test_the_fastest_of_the_precisions_that_may_be_chosen_is(timed, precisions, chosen):
    records = [timed(20, precision="fp32"), timed(10), timed(5, precision="fp16")]

    assert ask(records, precisions=precisions).row["precision"] == chosen


# Devices


@pytest.fixture
def of(timed, environment):
    """A record of a device by its name: the first GPU's, or the CPU's where the device is "cpu"."""

    def make(name, device="cuda:0", each_ms=10):
        if device == "cpu":
            where = environment.model_copy(update={"cpu": name})
        else:
            gpu = environment.gpus[0].model_copy(update={"name": name})
            where = environment.model_copy(update={"gpus": (gpu,)})
        return timed(each_ms, device=device, environment=where)

    return make


@pytest.mark.parametrize(
    ("gpu", "device"),
    [
        ("L4", "NVIDIA L4"),
        ("l4", "NVIDIA L4"),
        ("NVIDIA L4", "NVIDIA L4"),
        ("nvidia-l4", "NVIDIA L4"),
        ("L40S", "NVIDIA L40S"),
        ("H200", "NVIDIA H200"),
        ("H200 NVL", "NVIDIA H200 NVL"),
    ],
)
def test_a_gpu_is_found_by_words_of_its_name_and_by_no_part_of_a_word(of, gpu, device):
    names = ("NVIDIA L4", "NVIDIA L40S", "NVIDIA H200", "NVIDIA H200 NVL")
    found = ask([of(name, each_ms=9 - index) for index, name in enumerate(names)], gpu=gpu)

    assert found.row["gpu"] == device


@pytest.mark.parametrize("name", ["a CPU", "AMD EPYC 9654", "x86_64"])
def test_cpu_is_the_cpu_whatever_its_name_is(of, name):
    found = ask([of(name, "cpu", 50), of("NVIDIA L4")], gpu="cpu")

    assert (found.row["device"], found.row["cpu"]) == ("cpu", name)


def test_cpu_is_no_gpu_of_a_machine_with_such_a_cpu(of):
    assert refused([of("NVIDIA L4")], gpu="cpu").startswith(
        "The store has no record of a GPU 'cpu'"
    )


def test_a_cpu_is_found_by_words_of_its_name(of):
    found = ask([of("AMD EPYC 9654", "cpu", 50), of("Intel Xeon", "cpu")], gpu="epyc")

    assert found.row["cpu"] == "AMD EPYC 9654"


def test_where_all_records_are_of_one_device_it_need_not_be_named(of):
    assert ask([of("NVIDIA L4")]).row["gpu"] == "NVIDIA L4"


# Latency


def test_within_a_latency_the_fastest_is_recommended(timed):
    records = [timed(10, 1), timed(8, 2), timed(7, 4)]

    assert ask(records, latency_s=0.020).row["batch_size"] == 2
    assert ask(records, latency_s=0.020).keeps_latency


def test_a_way_that_is_fastest_beyond_the_latency_alone_is_not_recommended(timed):
    records = [timed(10, 1), timed(12, 1, attention="sdpa"), timed(6, 8, attention="sdpa")]

    assert ask(records, latency_s=0.020).row["attention"] == "reference"


def test_a_smaller_batch_is_taken_where_it_is_within_5_percent_of_the_best_that_keeps_it(timed):
    records = [timed(10, 1), timed(9.8, 2), timed(6, 8)]

    assert ask(records, latency_s=0.020).row["batch_size"] == 1


def test_the_runner_up_keeps_the_latency_too(timed):
    records = [timed(10), timed(12, attention="sdpa"), timed(11, 8, execution="compile")]

    assert ask(records, latency_s=0.020).runner_up["attention"] == "sdpa"


def test_a_forward_that_takes_just_the_latency_keeps_it(timed):
    row = ask([timed(10)]).row

    assert ask([timed(10)], latency_s=row["p90_s"]).keeps_latency


@pytest.mark.parametrize(("n", "keeps"), [(FEWEST_FOR_P90, True), (FEWEST_FOR_P90 - 1, False)])
def test_of_ten_forwards_one_may_be_late_and_of_fewer_none(timed, n, keeps):
    found = ask([timed(forward_ms=[10.0] * (n - 1) + [100.0])], latency_s=0.050)

    assert found.keeps_latency is keeps


def test_two_late_forwards_of_ten_are_too_many(timed):
    found = ask([timed(forward_ms=[10.0] * 8 + [100.0] * 2)], latency_s=0.050)

    assert not found.keeps_latency


def test_where_nothing_keeps_the_latency_the_nearest_is_told_and_that_it_does_not(timed):
    records = [timed(10, 4), timed(15, 2), timed(20, 1, attention="sdpa"), timed(22, 1)]
    found = ask(records, latency_s=0.005)

    assert (found.row["attention"], found.row["batch_size"]) == ("sdpa", 1)
    assert found.fastest == found.row
    assert not found.keeps_latency


def test_where_nothing_keeps_the_latency_another_way_that_is_as_near_is_not_taken_for_it(timed):
    found = ask([timed(15.3, 2, attention="sdpa"), timed(15, 2)], latency_s=0.005)

    assert found.row["attention"] == "reference"


# No record


def test_a_store_without_cases_has_no_good_record():
    assert refused([]) == "The store has no good record of a forward."


@pytest.mark.parametrize("status", OTHERS)
def test_a_store_of_other_statuses_has_no_good_record(timed, status):
    assert refused([timed(status=status)]) == "The store has no good record of a forward."


def test_a_store_of_records_without_forwards_has_no_good_record(make_record, make_measurement):
    record = make_record(measurement=make_measurement(latency=None))

    assert refused([record]) == "The store has no good record of a forward."


def test_where_no_record_is_of_the_gpu_those_that_are_there_are_named(timed):
    records = [timed(), timed(size=2), timed(device="cuda:1"), timed(device="cpu")]

    assert refused(records, gpu="H200") == (
        "The store has no record of a GPU 'H200', but of NVIDIA L4, NVIDIA L40S, a CPU: measure "
        "there with sam-bench sweep -m vit_b, or name another with --gpu."
    )


@pytest.mark.parametrize("gpu", [None, "NVIDIA"])
def test_where_records_are_of_several_devices_one_is_to_be_named(timed, gpu):
    records = [timed(), timed(device="cuda:1"), timed(size=2)]

    assert refused(records, gpu=gpu) == (
        "The store has records of NVIDIA L4, NVIDIA L40S: name one with --gpu."
    )


def test_two_cpus_are_several_devices(of):
    assert refused([of("one", "cpu"), of("two", "cpu")], gpu="cpu") == (
        "The store has records of one, two: name one with --gpu."
    )


@pytest.mark.parametrize("wanted", [{"model": "vit_h"}, {"image_size": 512}], ids=str)
def test_where_the_model_was_not_measured_at_that_size_what_was_is_named(timed, wanted):
    model, size = wanted.get("model", "vit_b"), wanted.get("image_size", 1024)
    records = [timed(), timed(size=2), timed(model="vit_l", image_size=256)]

    assert refused(records, **wanted) == (
        f"Of NVIDIA L4 the store has no record of {model} at {size} px, but of vit_b at 1024, "
        f"vit_l at 256: measure it with sam-bench sweep -m {model} -s {size}."
    )


def test_where_no_precision_that_may_be_chosen_was_measured_those_that_were_are_named(timed):
    records = [timed(), timed(size=2), timed(precision="fp16")]

    assert refused(records, precisions=("fp32", "tf32")) == (
        "Of NVIDIA L4 the store has vit_b in bf16, fp16 alone: let one of these be chosen, or "
        "measure it with sam-bench sweep -m vit_b -p fp32."
    )
