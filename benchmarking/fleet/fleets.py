"""The fleets that --fleet can select."""

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
    """What the user chose for a fleet.

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
    options: FleetOptions


def find_fleet(name: str, request: FleetRequest) -> Fleet:
    """The fleet of this name.

    Raises:
        SweepError: There is none of this name, or it can't be reached.
    """
    check_fleet(name)
    return FLEETS[name](request)


def check_fleet(name: str) -> None:
    if name not in FLEETS:
        raise SweepError(f"Unknown fleet {quoted(name)}.{suggestion(name, FLEETS)}")


FLEETS: dict[str, Callable[[FleetRequest], Fleet]] = {
    LOCAL: lambda request: LocalFleet(request.environment, request.options.lanes),
    "ray": lambda request: RayFleet(request.options.ray_address),
    "slurm": lambda request: SlurmFleet(
        list(dict.fromkeys(map(need_of, request.cases))), request.store, request.options.slurm
    ),
}
