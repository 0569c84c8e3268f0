"""The flags of commands that take a sweep: one for each field of Sweep and TimingPlan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from results.records.plan import TimingPlan

    from ..choices.sweep import Sweep


class SweepCommand(click.Command):
    """A command whose flags are the fields of Sweep and TimingPlan.

    They are made when the command is asked for, so that `sam-bench --help` stays quick.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_flag = super().get_params(ctx)
        return [*own, *sweep_flags(), help_flag]


def sweep_flags() -> list[click.Parameter]:
    """An option a field; the text is parsed by benchmarking.settings, which knows the limits."""
    from results.records.plan import TimingPlan

    from ..choices.sweep import Sweep
    from ..measuring.passes.table import default_passes, passes_help

    short = {"model": "-m", "batch_size": "-b", "image_size": "-s", "precision": "-p"}
    flags: list[click.Parameter] = []
    for fields in (Sweep.model_fields, TimingPlan.model_fields):
        for name, field in fields.items():
            names = [short[name]] if name in short else []
            default = field.default if field.default != (None,) else None
            description = field.description
            if name == "passes":
                default, description = default_passes(), passes_help()
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
            ending = f"  [default: {shown}]" if shown is not None else ""
            flags.append(
                click.Option(
                    [*names, "--" + name.replace("_", "-")],
                    metavar="VALUES" if fields is Sweep.model_fields else "VALUE",
                    help=f"{description}{ending}",
                )
            )
    encoder = click.Option(
        ["--encoder"],
        metavar="VALUES",
        help="Any module that takes images: package.module:function that makes it. Measured beside "
        "the models that --model names, or alone.",
    )
    return [encoder, *flags]


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
