"""Which job a GPU takes next, and which cases a shard has: plain decisions, of estimates alone."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from results.hardware.specs import SPECS, fits, gpu_model_of
from results.records.case import ANY, Case, TimingPlan

from ..choices.sweep import CPU
from ..errors import SweepError, quoted, suggestion
from ..sweeping.estimate import WORKER_START_S, case_seconds

Seconds = Callable[[Case], float]


@dataclass(frozen=True)
class Job:
    """Cases of one worker group, in their order: one process with one model measures them.

    need: The kind of GPU, ANY, or CPU.
    seconds: About what it takes.
    """

    job_id: int
    cases: tuple[Case, ...]
    need: str
    seconds: float

    def rest(self, job_id: int, done: Iterable[str]) -> Job | None:
        """What is left of it without the cases with these ids."""
        done = set(done)
        left = tuple(case for case in self.cases if case.case_id not in done)
        if not left:
            return None
        seconds = self.seconds * len(left) / len(self.cases)
        return replace(self, job_id=job_id, cases=left, seconds=seconds)


def need_of(case: Case) -> str:
    """The kind of GPU that a case needs."""
    return CPU if case.device == "cpu" else case.gpu or ANY


def does(gpu: str | None, need: str) -> bool:
    """Whether a GPU with this name, or a CPU where None, is what is needed."""
    if gpu is None or need == CPU:
        return gpu is None and need == CPU
    # What the table has a row for is that row's alone: an H100 PCIe is no H100.
    return need == ANY or (gpu_model_of(gpu) == need if need in SPECS else fits(need, gpu))


def check_needs(cases: Iterable[Case], there: Sequence[str | None], where: str) -> None:
    """Refuse cases whose kind is not there, which would be waited for without end.

    Args:
        there: Names of the GPUs, None for a CPU.
        where: They are, for a person.
    """
    for need in dict.fromkeys(map(need_of, cases)):
        if any(does(gpu, need) for gpu in there):
            continue
        have = counted(there)
        if need in (ANY, CPU):
            what = "no GPU" if need == ANY else "no CPU to measure on"
            raise SweepError(f"There is {what} {where}, which has: {have}. See --gpu.")
        if any(fits(need, row) or fits(row, need) for row in SPECS):
            raise SweepError(
                f"--gpu {need}: there is none {where}, which has: {have}. Leave it out, or start "
                "a machine that has one."
            )
        raise SweepError(
            f"--gpu: unknown kind {quoted(need)}; {where} there is: {have}."
            f"{suggestion(need, [*SPECS, ANY, CPU])}"
        )


def counted(there: Sequence[str | None]) -> str:
    """'16 x NVIDIA L4, 8 x NVIDIA H200'."""
    names = [gpu or CPU for gpu in there]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"


def worker_groups(cases: Iterable[Case]) -> list[tuple[Case, ...]]:
    """Cases that share a model, in the order of their first."""
    found: dict[tuple[Hashable, ...], list[Case]] = {}
    for case in cases:
        found.setdefault(case.worker_key, []).append(case)
    return [tuple(own) for own in found.values()]


def make_jobs(cases: Iterable[Case], seconds_of: Seconds) -> list[Job]:
    """A job per worker group."""
    return [
        Job(number, own, need_of(own[0]), WORKER_START_S + sum(map(seconds_of, own)))
        for number, own in enumerate(worker_groups(cases))
    ]


class Scheduler:
    """Jobs that wait, the longest first: a long one that began last would be waited for alone.

    A GPU takes what only its kind can do before what any can.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._waiting: dict[str, list[tuple[float, int, Job]]] = {}
        self._count = 0
        for job in jobs:
            self.add(job)

    def __len__(self) -> int:
        return self._count

    def add(self, job: Job) -> None:
        heapq.heappush(self._waiting.setdefault(job.need, []), (-job.seconds, job.job_id, job))
        self._count += 1

    def take(self, gpu: str | None) -> Job | None:
        """The next job of a GPU with this name, or of a CPU where None."""
        able = [need for need, jobs in self._waiting.items() if jobs and does(gpu, need)]
        if not able:
            return None
        need = min(able, key=lambda need: (need == ANY, self._waiting[need][0]))
        self._count -= 1
        return heapq.heappop(self._waiting[need])[2]

    def needs(self) -> list[str]:
        """What waiting jobs need."""
        return [need for need, jobs in self._waiting.items() if jobs]


def makespan(jobs: Sequence[Job], gpus: Sequence[str | None], lanes: int | None = None) -> float:
    """About how long GPUs with these names will take, in seconds; 0 where none can do anything.

    Args:
        lanes: How many work at once; all where None.
    """
    waiting = Scheduler(jobs)
    free = [(0.0, index) for index in range(len(gpus))]
    longest = 0.0
    while waiting and free:
        now, index = heapq.heappop(free)
        job = waiting.take(gpus[index])
        if job is not None:  # else there is nothing for this GPU any more
            longest = max(longest, now + job.seconds)
            heapq.heappush(free, (now + job.seconds, index))
    whole_s = sum(job.seconds for job in jobs)
    return longest if lanes is None else max(longest, whole_s / lanes)


def parse_shard(text: str) -> tuple[int, int]:
    """'2/8' to 2 and 8; SweepError where there is no such shard."""
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise SweepError(
            f"--shard must be one of so many, from 1/N to N/N such as 2/8, got {quoted(text)}."
        )
    return int(found[1]), int(found[2])


def shard(cases: Sequence[Case], plan: TimingPlan, number: int, count: int) -> list[Case]:
    """The cases of one shard of `count`: each case is in one of them, whoever asks.

    What is estimated follows from the cases alone, never from records, so that all machines agree.
    A shard has one kind of GPU as far as there are shards enough; a worker group stays in one,
    unless it is longer than a shard should be.
    """
    by_need: dict[str, list[Case]] = {}
    for case in cases:
        by_need.setdefault(need_of(case), []).append(case)

    def seconds_of(own: Iterable[Case]) -> float:
        return WORKER_START_S + sum(case_seconds(case, plan) for case in own)

    total_s = {need: sum(map(seconds_of, worker_groups(own))) for need, own in by_need.items()}
    if count < len(by_need):
        whole = pack([tuple(own) for own in by_need.values()], seconds_of, count)
        return in_order(cases, whole[number - 1])
    first = 0
    most = {need: len(own) for need, own in by_need.items()}
    for need, shards in apportion(total_s, most, count).items():
        if number <= first + shards:
            fair_s = total_s[need] / shards
            # The cases of a group that is longer than a shard should be are each on their own.
            parts = [
                part
                for own in worker_groups(by_need[need])
                for part in ([own] if seconds_of(own) <= fair_s else [(case,) for case in own])
            ]
            packs = pack(parts, seconds_of, shards)
            return in_order(cases, packs[number - first - 1])
        first += shards
    return []  # more shards than cases


def pack(
    parts: Sequence[tuple[Case, ...]], seconds_of: Callable[[Iterable[Case]], float], count: int
) -> list[list[Case]]:
    """Parts in so many packs of about the same seconds: the longest first, each to the emptiest."""
    packs: list[list[Case]] = [[] for _ in range(count)]
    filled = [(0.0, index) for index in range(count)]
    for part in sorted(parts, key=lambda part: (-seconds_of(part), part[0].case_id)):
        seconds, index = heapq.heappop(filled)
        packs[index] += part
        heapq.heappush(filled, (seconds + seconds_of(part), index))
    return packs


def apportion(total_s: dict[str, float], most: dict[str, int], count: int) -> dict[str, int]:
    """Shards by kind, at least one each, so that the longest shard is as short as can be.

    Args:
        total_s: By kind.
        most: Shards that a kind has cases for.
    """
    shards = dict.fromkeys(total_s, 1)
    for _ in range(count - len(shards)):
        wanting = [need for need in total_s if shards[need] < most[need]]
        if not wanting:
            break
        chosen = max(wanting, key=lambda need: total_s[need] / shards[need])
        shards[chosen] += 1
    return shards


def in_order(cases: Sequence[Case], chosen: Iterable[Case]) -> list[Case]:
    """The chosen ones as they stand in the sweep: batch sizes ascend."""
    ids = {case.case_id for case in chosen}
    return [case for case in cases if case.case_id in ids]
