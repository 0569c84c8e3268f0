"""Options for where the cases of a sweep run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from results.records.errors import UserError

from .terminal import with_options

if TYPE_CHECKING:
    from results.records.case import Case, TimingPlan
    from results.records.environment import Environment
    from results.records.store import Store

    from ..choices.sweep import Sweep
    from ..fleet.jobs import Fleet

FLEET = ("fleet", "parallel", "shard", "ray_address")
SLURM = ("partition", "gres", "constraint", "jobs", "minutes", "cpus", "memory_gb")
FLEET_FLAGS = (*FLEET, *(f"slurm_{name}" for name in SLURM))


# Where the cases run.
fleet_options = with_options(
    click.option(
        "--fleet", default="local", show_default=True,
        help="Where to run the cases: local, ray or slurm.",
    ),
    click.option(
        "--parallel", type=click.Choice(["gpus", "1"]),
        help="On this machine: one worker per GPU, or one at a time, since parallel cases "
        "share CPU, PCIe bus and power.  [default: gpus with --gpu, else 1]",
    ),
    click.option(
        "--shard", metavar="I/N",
        help="Run only the I-th of N parts of the sweep, each of about the same duration. "
        "Parts are the same on every machine. See sam-bench merge.",
    ),
    click.option(
        "--ray-address", metavar="HOST:PORT",
        help="Address of the Ray cluster.  [default: RAY_ADDRESS, else this machine's]",
    ),
    click.option("--slurm-partition", metavar="NAME", help="Slurm partition to submit jobs to."),
    click.option(
        "--slurm-gres", metavar="TEXT",
        help="Value for Slurm's --gres; {kind} is the GPU model.  [default: gpu:{kind}:1]",
    ),
    click.option(
        "--slurm-constraint", metavar="TEXT",
        help="Value for Slurm's --constraint, a feature of nodes such as {kind}.",
    ),
    click.option(
        "--slurm-jobs", type=click.IntRange(1, 10_000),
        help="Maximum number of queued jobs per GPU model.  [default: 16]",
    ),
    click.option(
        "--slurm-cpus", type=click.IntRange(1, 1_000),
        help="CPU cores per job.  [default: 8]",
    ),
    click.option(
        "--slurm-memory-gb", type=click.IntRange(1, 10_000),
        help="Memory per job, in GB.  [default: 64]",
    ),
    click.option(
        "--slurm-minutes", type=click.IntRange(1, 100_000),
        help="Time limit per job, in minutes.  [default: 240]",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class FleetChoice:
    """Where to run cases."""

    fleet: str = "local"
    parallel: str | None = None
    shard: str | None = None
    ray_address: str | None = None
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def taken_from(cls, flags: dict[str, Any]) -> FleetChoice:
        """From a command's flags, of which those of the sweep are left."""
        own = {name: flags.pop(name) for name in FLEET}
        slurm = {name: flags.pop(f"slurm_{name}") for name in SLURM}
        return cls(**own, slurm={name: value for name, value in slurm.items() if value is not None})

    def check_flags(self) -> None:
        """Refuse an unknown fleet, and options that have no effect on it."""
        from ..fleet.fleets import check_fleet

        check_fleet(self.fleet)
        others = {
            "--parallel": ("local", self.parallel),
            "--ray-address": ("ray", self.ray_address),
        } | {
            f"--slurm-{name.replace('_', '-')}": ("slurm", self.slurm[name]) for name in self.slurm
        }
        for flag, (fleet, value) in others.items():
            if value is not None and fleet != self.fleet:
                raise UserError(f"{flag} is for --fleet {fleet}, got --fleet {self.fleet}.")

    def of_sweep(self, asked: Sweep) -> Sweep:
        """A fleet gives any GPU, where no kind is named."""
        from ..fleet.scheduler import parse_shard

        self.check_flags()
        if self.shard is not None:
            parse_shard(self.shard)
        if self.parallel == "gpus" and asked.device != ("auto",):
            raise UserError(
                "--parallel gpus gives each GPU of this machine a worker: name kinds with --gpu, "
                "not --device."
            )
        if self.fleet != "local" and asked.device != ("auto",):
            raise UserError(
                f"--fleet {self.fleet} runs cases on other machines: name kinds with --gpu, "
                "not --device."
            )
        if self.shard is not None and asked.gpu == (None,) and asked.device == ("auto",):
            raise UserError(
                "--shard must mean the same on every machine: name the devices with --gpu or "
                "--device."
            )
        if asked.gpu != (None,) or (self.fleet == "local" and self.parallel != "gpus"):
            return asked
        return asked.model_copy(update={"gpu": ("any",)})

    def cases(self, asked: Sweep, plan: TimingPlan, environment: Environment) -> list[Case]:
        """Of the sweep, or of its shard."""
        from ..fleet.scheduler import parse_shard, shard

        cases = self.of_sweep(asked).cases(environment)
        return cases if self.shard is None else shard(cases, plan, *parse_shard(self.shard))

    def find_fleet(
        self, cases: Sequence[Case], environment: Environment, store: Store
    ) -> Fleet | None:
        """None where the cases run here, one after another, on devices that they name."""
        from ..fleet.fleets import LOCAL, FleetOptions, FleetRequest, find_fleet
        from ..fleet.slurm import SlurmOptions

        if self.fleet == LOCAL and not any(case.gpu for case in cases):
            return None
        lanes = 1 if self.parallel == "1" else None
        asked = FleetOptions(lanes, self.ray_address, SlurmOptions(**self.slurm))
        return find_fleet(self.fleet, FleetRequest(cases, environment, store, asked))
