"""Finding the largest batch that fits: doubling, then halving the gap, a process for each probe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from results.answers.capacity import FITTING, capacity_key
from results.records.case import Case, TimingPlan
from results.records.environment import Environment
from results.records.schema import Record

from ..choices.sweep import QUICK
from ..measuring.passes.table import PASSES
from .runner import SweepContext, SweepExecution, SweepOptions, run_sweep

NOT_FITTING = "oom"


@dataclass(frozen=True)
class SearchHints:
    """What earlier probes found; it only orders the next ones, since a machine changes."""

    fitting: int | None = None
    not_fitting: int | None = None


class ProbeFailedError(Exception):
    """A probe neither fitted nor ran out of memory, so that the search can't go on.

    sweep_id: Of the probes, which keep what they found.
    """

    def __init__(self, record: Record) -> None:
        super().__init__(f"batch {record.case.batch_size}: {record.status}: {record.message}")
        self.sweep_id = record.sweep_id


def find_largest(fits: Callable[[int], bool], most: int, known: SearchHints = SearchHints()) -> int:
    """The largest batch size that fits, or 0; at most 2 log2(n) + 2 calls where nothing is known.

    Args:
        fits: Whether a batch size does; where one does not, no larger one may.
        most: The largest that is tried.
        known: Tried first; each that no longer holds costs a call more.
    """
    low, high = 0, most + 1  # fits, and does not fit
    sizes = [known.fitting, known.not_fitting]
    if known.fitting is not None and known.not_fitting is not None:
        sizes[1] = max(known.not_fitting, known.fitting + 1)  # one on the edge may be both
    for size in (min(size, most) for size in sizes if size):
        if low < size < high:
            low, high = (size, high) if fits(size) else (low, size)
    while high - low > 1:
        # Doubled at most: a guess that failed may be far above the truth.
        size = min(2 * low or 1, most if high > most else (low + high) // 2)
        low, high = (size, high) if fits(size) else (low, size)
    return low


def find_below(fits: Callable[[int], bool], high: int) -> int:
    """The largest batch size that fits, or 0, most likely just below one that does not."""
    low, step = high, 1
    while low == high:
        low = max(0, high - step)
        if low and not fits(low):
            high, step = low, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def remembered(
    records: Iterable[Record], case: Case, plan: TimingPlan, where: Environment
) -> SearchHints:
    """What the store's records say of a case at any batch size."""
    wanted = capacity_key(case, where, plan)
    same = [
        record
        for record in records
        if capacity_key(record.case, record.environment, record.plan) == wanted
    ]
    fitting = (record.case.batch_size for record in same if record.status in FITTING)
    not_fitting = (record.case.batch_size for record in same if record.status == NOT_FITTING)
    return SearchHints(max(fitting, default=None), min(not_fitting, default=None))


def find_capacity(case: Case, plan: TimingPlan, setting: SweepContext, most: int) -> list[str]:
    """Probe a case at growing batch sizes, then measure the largest that fits with all passes.

    Args:
        case: At any batch size.
        plan: Of the last, full measurement; probes take a short one.
        setting: Its case_runner is closed after each probe, so that nothing of it is left.
        most: The largest batch size that is tried.

    Returns:
        Ids of the sweeps that hold the records.

    Raises:
        ProbeFailedError: Where a probe neither fitted nor ran out of memory.
    """
    store = setting.store
    known = remembered(store.read().records, case, plan, setting.environment)
    # As short as --quick, and only what a card shows.
    energy = ("energy",) if PASSES["energy"].why_not(case) is None else ()
    short = plan.model_copy(update={**QUICK, "passes": ("latency", "memory", *energy)})
    # Never that of an ordinary sweep, which would go on with it: it plans no case yet.
    sweep = setting.new_sweep((), short)
    with setting.holding(sweep):
        run = SweepExecution(sweep, setting, SweepOptions(prunes=False))
        run.watcher.begin(sweep, [])
        largest = find_largest(partial(fits_alone, run, case), most, known)
    sweep_ids = [sweep.sweep_id]

    def fits_in_full(batch_size: int) -> bool:
        whole = case.model_copy(update={"batch_size": batch_size})
        sweep_id = run_sweep([whole], plan, setting, SweepOptions(is_fresh=True, prunes=False))
        sweep_ids.append(sweep_id)
        (record,) = store.read(sweep_id).records
        return record.status != NOT_FITTING

    if largest > 0 and not fits_in_full(largest):
        find_below(fits_in_full, largest)
    return sweep_ids


def fits_alone(run: SweepExecution, case: Case, batch_size: int) -> bool:
    """Measure one batch size in a process of its own; the sweep's cases are planned as needed."""
    case = case.model_copy(update={"batch_size": batch_size})
    run.sweep = run.sweep.model_copy(update={"cases": (*run.sweep.cases, case)})
    run.store.write_sweep(run.sweep)
    run.watcher.case_begins(case)
    record = run.measure(case)
    run.case_runner.close()
    run.keep(record)
    if record.status not in (*FITTING, NOT_FITTING):
        raise ProbeFailedError(record)
    return record.status in FITTING
