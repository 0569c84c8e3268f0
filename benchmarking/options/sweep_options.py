"""The flags of commands that take a sweep: one for each field of Sweep and TimingPlan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from results.records.case import TimingPlan

    from ..choices.sweep import Sweep


class SweepCommand(click.Command):
    """A command whose flags are the fields of Sweep and TimingPlan.

    They are made when the command is asked for, so that `sam-bench --help` stays quick.
    """

    takes_plan = True

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_flag = super().get_params(ctx)
        return [*own, *sweep_flags(self.takes_plan), help_flag]


class AxesCommand(SweepCommand):
    """A command that plans cases but times nothing: its flags are the fields of Sweep."""

    takes_plan = False


def sweep_flags(takes_plan: bool = True) -> list[click.Parameter]:
    """An option for each axis and field of the plan; benchmarking.choices.settings parses them."""
    from results.records.case import AXES, TimingPlan

    from ..measuring.passes.table import default_passes, passes_help

    axes = [
        option(name, axis.help, axis.default, "VALUES", *filter(None, [axis.short]))
        for name, axis in AXES.items()
    ]
    told = {"passes": (passes_help(), default_passes())}
    plan = [
        option(name, *told.get(name, (str(field.description), field.default)), "VALUE")
        for name, field in TimingPlan.model_fields.items()
        if takes_plan
    ]
    encoder = click.Option(
        ["--encoder"],
        metavar="VALUES",
        help="Any module that takes images: package.module:function that makes it. Measured beside "
        "the models that --model names, or alone.",
    )
    return [encoder, *axes, *plan]


def option(name: str, text: str, default: object, metavar: str, *short: str) -> click.Option:
    """A flag that takes text, with its default in its help."""
    values = default if isinstance(default, tuple) else (default,)
    shown = ",".join(str(value) for value in values if value is not None)
    ending = f"  [default: {shown}]" if shown else ""
    flag = "--" + name.replace("_", "-")
    return click.Option([*short, flag], metavar=metavar, help=text + ending)


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A TOML file of the settings below, by name; flags win over it.",
)
quick_option = click.option(
    "--quick", is_flag=True, help="Shorter warm-up and timing: a first look, wider intervals."
)


def asked_sweep(
    config: Path | None, quick: bool, flags: dict[str, str | None]
) -> tuple[Sweep, TimingPlan]:
    """The sweep of a TOML file and flags."""
    from ..choices.settings import parse_sweep, read_config

    settings: dict[str, object] = read_config(config) if config is not None else {}
    settings |= {name: value for name, value in flags.items() if value is not None}
    asked, plan, notes = parse_sweep(settings, quick)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return asked, plan
