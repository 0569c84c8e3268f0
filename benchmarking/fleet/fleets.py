"""What --launcher names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from results.records.case import Case
from results.records.environment import Environment
from results.records.store import Store

from ..errors import SweepError, quoted, suggestion
from .jobs import Fleet
from .local import LocalFleet
from .ray_fleet import RayFleet
from .scheduler import need_of
from .slurm import SlurmFleet, SlurmOptions

LOCAL = "local"


@dataclass(frozen=True)
class FleetOptions:
    """What a person chose of fleets.

    lanes: Jobs at once on this machine; one a GPU where None.
    """

    lanes: int | None = None
    ray_address: str | None = None
    slurm: SlurmOptions = field(default_factory=SlurmOptions)


@dataclass(frozen=True)
class FleetRequest:
    """What a fleet is found for."""

    cases: Sequence[Case]
    environment: Environment
    store: Store
    asked: FleetOptions


def find_fleet(launcher: str, sought: FleetRequest) -> Fleet:
    """The fleet of a launcher; SweepError where it can't be reached."""
    check_launcher(launcher)
    return FLEETS[launcher](sought)


def check_launcher(launcher: str) -> None:
    if launcher not in FLEETS:
        raise SweepError(f"Unknown launcher {quoted(launcher)}.{suggestion(launcher, FLEETS)}")


FLEETS: dict[str, Callable[[FleetRequest], Fleet]] = {
    LOCAL: lambda sought: LocalFleet(sought.environment, sought.asked.lanes),
    "ray": lambda sought: RayFleet(sought.asked.ray_address),
    "slurm": lambda sought: SlurmFleet(
        list(dict.fromkeys(map(need_of, sought.cases))), sought.store, sought.asked.slurm
    ),
}
