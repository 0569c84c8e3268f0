"""Which job a GPU takes next, and which cases a shard has, decided of estimates alone."""

from __future__ import annotations

import random

import pytest

from benchmarking.fleet.scheduler import (
    Job,
    Scheduler,
    check_needs,
    counted,
    does,
    make_jobs,
    makespan,
    need_of,
)
from benchmarking.measuring.passes.table import default_passes
from benchmarking.sweeping.estimate import WORKER_START_S
from results.hardware.specs import SPECS
from results.records.case import ANY, TimingPlan

PLAN = TimingPlan(passes=default_passes())
H100, H200, L4, L40S = "NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA L4", "NVIDIA L40S"


@pytest.fixture
def make_job(make_needy):
    """Maker of jobs of one case, each with an id of its own."""
    ids = iter(range(1000))

    def make(seconds=1.0, need=ANY, sizes=(1,)) -> Job:
        cases = tuple(make_needy(need, batch_size=size) for size in sizes)
        return Job(next(ids), cases, need, seconds)

    return make


def taken(scheduler, gpu):
    """Seconds of all jobs that a GPU takes, one after another."""
    jobs = iter(lambda: scheduler.take(gpu), None)
    return [job.seconds for job in jobs]


# Jobs


def test_a_job_is_a_family_in_its_order(make_needy):
    models, sizes = ("vit_b", "tiny"), (4, 1, 2)
    cases = [
        make_needy("L4", model=model, batch_size=size, input=source)
        for source in ("noise", "images")
        for size in sizes
        for model in models
    ]
    jobs = make_jobs(cases, lambda case: 1.0)

    assert [job.cases[0].model for job in jobs] == list(models)
    for job in jobs:
        assert [case for case in cases if case.worker_key == job.cases[0].worker_key] == list(
            job.cases
        )


def test_jobs_have_ids_of_their_own_from_zero(make_needy):
    cases = [make_needy(need) for need in ("L4", "H200", ANY, "cpu")]

    assert [job.job_id for job in make_jobs(cases, lambda case: 1.0)] == [0, 1, 2, 3]


@pytest.mark.parametrize("need", ["L4", "H200", ANY, "cpu"])
def test_a_job_needs_what_its_cases_need(make_needy, need):
    (job,) = make_jobs([make_needy(need)], lambda case: 1.0)

    assert job.need == need_of(job.cases[0]) == need


def test_a_case_that_names_a_device_alone_needs_any_gpu(make_case):
    assert need_of(make_case(device="cuda:0")) == ANY


@pytest.mark.parametrize("changes", [{"gpu": "H200"}, {"model": "vit_b"}, {"precision": "bf16"}])
def test_another_kind_or_model_is_another_job(make_needy, changes):
    cases = [make_needy("L4"), make_needy(changes.get("gpu", "L4"), **changes)]

    assert len(make_jobs(cases, lambda case: 1.0)) == 2


def test_a_job_takes_its_cases_time_and_one_start_of_a_worker(make_needy):
    cases = [make_needy("L4", batch_size=size) for size in (1, 2, 4)]
    (job,) = make_jobs(cases, lambda case: float(case.batch_size))

    assert job.seconds == WORKER_START_S + 7


def test_what_is_left_of_a_job_keeps_its_order_and_takes_its_share(make_job):
    job = make_job(8.0, sizes=(1, 2, 4, 8))
    done = [job.cases[0].case_id, job.cases[2].case_id, "another"]
    rest = job.rest(77, done)

    assert [case.batch_size for case in rest.cases] == [2, 8]
    assert (rest.job_id, rest.seconds, rest.need) == (77, 4.0, job.need)


def test_of_a_job_that_is_done_nothing_is_left(make_job):
    job = make_job(sizes=(1, 2))

    assert job.rest(1, [case.case_id for case in job.cases]) is None


# Which GPU does what

CAN = [
    (L4, "L4"), (L40S, "L40S"), (H100, "H100"), (H200, "H200"), (L4, ANY), (H200, ANY),
    ("NVIDIA H100 PCIe", "H100 PCIe"), ("NVIDIA H100 NVL", "H100 NVL"), (None, "cpu"),
    ("NVIDIA GeForce RTX 5090", "RTX 5090"), ("L4", "L4"),
]  # fmt: skip
CAN_NOT = [
    (L4, "L40S"), (L40S, "L4"), (H100, "H100 PCIe"), (H100, "H100 NVL"), (H100, "H200"),
    (H200, "H100"), ("NVIDIA H100 NVL", "H100"), ("NVIDIA H100 PCIe", "H100 NVL"),
    ("NVIDIA L4 MIG 1g.6gb", "L4"), ("NVIDIA A10G", "A10"), (L4, "cpu"), (None, ANY), (None, "L4"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("gpu", "need", "answer"),
    [*((*each, True) for each in CAN), *((*each, False) for each in CAN_NOT)],
)
def test_a_gpu_does_what_its_name_fits(gpu, need, answer):
    assert does(gpu, need) is answer


@pytest.mark.parametrize(("gpu", "need"), CAN)
def test_a_gpu_takes_a_job_that_it_can_do(make_job, gpu, need):
    job = make_job(need=need)

    assert Scheduler([job]).take(gpu) is job


@pytest.mark.parametrize(("gpu", "need"), CAN_NOT)
def test_a_job_that_a_gpu_can_not_do_waits(make_job, gpu, need):
    scheduler = Scheduler([make_job(need=need)])

    assert scheduler.take(gpu) is None
    assert (len(scheduler), scheduler.needs()) == (1, [need])


# Which comes next


def test_the_longest_job_is_taken_first(make_job):
    scheduler = Scheduler(make_job(seconds) for seconds in (3, 9, 1, 5))

    assert taken(scheduler, L4) == [9, 5, 3, 1]
    assert not scheduler


def test_of_jobs_that_take_equally_long_the_first_is_taken(make_job):
    jobs = [make_job() for _ in range(5)]
    scheduler = Scheduler(reversed(jobs))

    assert [scheduler.take(L4) for _ in jobs] == jobs


def test_a_gpu_takes_what_only_its_kind_can_do_before_what_any_can(make_job):
    scheduler = Scheduler([make_job(100), make_job(1, "L4"), make_job(50, "H200")])

    assert taken(scheduler, L4) == [1, 100]
    assert taken(scheduler, H200) == [50]


def test_a_cpu_takes_the_jobs_of_a_cpu_alone(make_job):
    scheduler = Scheduler([make_job(9, need) for need in (ANY, "L4", "cpu")])

    assert scheduler.take(None).need == "cpu"
    assert scheduler.take(None) is None


def test_a_job_that_is_added_later_takes_its_place_in_the_order(make_job):
    scheduler = Scheduler([make_job(9), make_job(1)])
    first = scheduler.take(L4)
    scheduler.add(make_job(5))

    assert [first.seconds, *taken(scheduler, L4)] == [9, 5, 1]


def test_every_job_is_taken_once_whoever_asks(make_job):
    chance = random.Random(7)
    needs = ("L4", "H200", ANY, "cpu")
    jobs = [make_job(chance.uniform(1, 9), chance.choice(needs)) for _ in range(200)]
    scheduler, given = Scheduler(jobs), []
    while scheduler:
        gpu = chance.choice([L4, L40S, H200, None])
        job = scheduler.take(gpu)
        assert job is None or does(gpu, job.need)
        given += [job] * (job is not None)

    assert sorted(job.job_id for job in given) == [job.job_id for job in jobs]


# How long a fleet takes


def test_one_gpu_takes_the_sum(make_job):
    assert makespan([make_job(seconds) for seconds in (1, 2, 3)], [L4]) == 6


def test_gpus_side_by_side_share_the_jobs(make_job):
    assert makespan([make_job(seconds) for seconds in (3, 5, 3)], [L4, L4]) == 6


def test_a_kind_that_only_one_gpu_is_sets_the_time(make_job):
    jobs = [make_job(10, "L4"), make_job(4), make_job(5)]

    assert makespan(jobs, [L4, H200]) == 10


def test_what_nobody_can_do_takes_no_time(make_job):
    assert makespan([make_job(9, "H200"), make_job(2, "L4")], [L4]) == 2
    assert makespan([make_job(9)], []) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_longest_first_is_never_far_from_the_best(make_job, seed):
    chance = random.Random(seed)
    jobs = [make_job(chance.uniform(1, 100)) for _ in range(chance.randint(1, 60))]
    gpus = [L4] * chance.randint(1, 9)
    seconds = [job.seconds for job in jobs]
    least = max(sum(seconds) / len(gpus), *seconds)

    assert least <= makespan(jobs, gpus) * (1 + 1e-9)
    assert makespan(jobs, gpus) <= 4 / 3 * least + max(seconds)


# Kinds that are not there

WHERE = "in the rack"
REFUSED = {
    "unknown kind": (
        "L5", [L4],
        "--gpu: unknown kind 'L5'; in the rack there is: 1 x NVIDIA L4. Did you mean 'L4'?",
    ),
    "known kind": (
        "H200", [L4, L4, None],
        "--gpu H200: there is none in the rack, which has: 2 x NVIDIA L4, 1 x cpu. Leave it out, "
        "or start a machine that has one.",
    ),
    "less than a known kind's name": (
        "RTX", [L4], "--gpu RTX: there is none in the rack, which has: 1 x NVIDIA L4. Leave it "
        "out, or start a machine that has one.",
    ),
    "the other form of a kind": (
        "H100 PCIe", [H100],
        "--gpu H100 PCIe: there is none in the rack, which has: 1 x NVIDIA H100 80GB HBM3. Leave "
        "it out, or start a machine that has one.",
    ),
    "no GPU": (ANY, [None], "There is no GPU in the rack, which has: 1 x cpu. See --gpu."),
    "nothing": (ANY, [], "There is no GPU in the rack, which has: none. See --gpu."),
    "no CPU": (
        "cpu", [H200],
        "There is no CPU to measure on in the rack, which has: 1 x NVIDIA H200. See --gpu.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("need", "there", "line"), REFUSED.values(), ids=REFUSED)
def test_a_kind_that_is_not_there_is_refused(make_needy, refusal, need, there, line):
    assert refusal(check_needs, [make_needy(need)], there, WHERE) == line


def test_a_kind_like_none_is_refused_with_all_that_are_known(make_needy, refusal):
    line = refusal(check_needs, [make_needy("zzzz")], [L4], WHERE)

    assert line.endswith(f" Known: {', '.join([*SPECS, 'any', 'cpu'])}.")


def test_one_kind_that_is_missing_is_enough(make_needy, refusal):
    cases = [make_needy(need) for need in ("L4", ANY, "H200")]

    assert "--gpu H200: there is none" in refusal(check_needs, cases, [L4], WHERE)


@pytest.mark.parametrize(("gpu", "need"), CAN)
def test_a_kind_that_is_there_is_let_pass(make_needy, gpu, need):
    check_needs([make_needy(need)], [H200, gpu], WHERE)


@pytest.mark.parametrize(
    ("there", "text"),
    [
        ([], "none"),
        ([None], "1 x cpu"),
        ([L4, H200, L4, None], "2 x NVIDIA L4, 1 x NVIDIA H200, 1 x cpu"),
    ],
)
def test_what_is_there_is_counted_by_name(there, text):
    assert counted(there) == text
