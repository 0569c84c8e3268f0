"""The command that answers which way to run the encoder: recommend."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from results.records.errors import UserError

from ..options.records import read_store
from ..options.terminal import EXIT_UNCLEAR, out, store_option

if TYPE_CHECKING:
    from results.answers.recommend import Recommendation

UNITS_S = {"ms": 1e-3, "s": 1.0}


class Duration(click.ParamType):
    """A number with its unit, in seconds."""

    name = "duration"

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        from ..errors import quoted

        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s)", str(value))
        seconds = float(found[1]) * UNITS_S[found[2]] if found else 0.0
        if seconds <= 0:
            got = quoted(value)
            self.fail(f"must be a number above 0 with its unit, as 200ms or 0.2s, got {got}.")
        return seconds


@click.command()
@click.option("-m", "--model", default="vit_b", show_default=True, help="Model type.")
@click.option("--gpu", help="Words of the GPU's name, as L4; or cpu.  [default: the only one]")
@click.option(
    "-s", "--image-size", type=click.IntRange(16, 65_536), default=1024, show_default=True,
    help="Pixels along an edge.",
)  # fmt: skip
@click.option(
    "--latency", type=Duration(), help="Most that a forward may take, nine times in ten: 200ms."
)
@click.option("-p", "--precision", "named", help="May be chosen.  [default: all but fp8 and int8]")
@click.option("--approximate", is_flag=True, help="Let fp8 and int8 be chosen too, unasked.")
@click.option("--format", "form", type=click.Choice(("table", "json", "md")), default="table")
@store_option
def recommend(
    model: str,
    gpu: str | None,
    image_size: int,
    latency: float | None,
    named: str | None,
    approximate: bool,
    form: str,
    store_path: Path,
) -> None:
    """Say how to run the encoder on a GPU: batch, precision, attention and execution.

    Told from the store's records: the fastest way that was measured, at the smallest batch within
    5 % of its best, with the evidence, and how sure that is.

    \b
    Example:
      sam-bench recommend --gpu H200 --model vit_h --latency 200ms --store demo
    """
    from results.answers.recommend import Requirements
    from results.answers.recommend import recommend as find
    from results.hardware.specs import store_specs
    from results.tables.frames import case_frame

    from ..views.printing import markdown, print_table
    from ..views.recommend_views import recommendation_view

    if gpu is not None and not gpu.strip():
        raise UserError("--gpu must hold words of a GPU's name, as L4, or cpu; it is empty.")
    wanted = Requirements(model, gpu, image_size, latency, allowed_precisions(named, approximate))
    cases = case_frame(read_store(store_path, "all").records, store_specs(store_path))
    found = find(cases, wanted)
    view = recommendation_view(found, wanted, cases)
    if form == "json":
        click.echo(json.dumps(answer(found), indent=1))
    elif form == "md":
        click.echo(markdown(view))
    else:
        print_table(view, out())
    if not found.keeps_latency:
        sys.exit(EXIT_UNCLEAR)


def answer(found: Recommendation) -> dict[str, object]:
    """The recommendation in base units, for a program."""
    from results.records.case import WAY_AXES

    names = ("batch_size", *WAY_AXES, "image_s", "median_s", "images_per_s")
    return {name: found.row[name] for name in names} | {
        "keeps_latency": found.keeps_latency,
        "confidence": found.confidence,
        "doubts": [*found.grave, *found.slight],
        "record": f"{found.row['sweep_id']}/{found.row['case_id']}",
    }


def allowed_precisions(named: str | None, approximate: bool) -> tuple[str, ...]:
    from ..choices.precision import PRECISIONS
    from ..errors import quoted, suggestion

    if named is None:
        return tuple(
            name
            for name, precision in PRECISIONS.items()
            if approximate or precision.budget is None
        )
    names = tuple(name.strip() for name in named.split(","))
    for name in names:
        if name not in PRECISIONS:
            raise UserError(
                f"{quoted(name)} is no precision for --precision.{suggestion(name, PRECISIONS)}"
            )
    return names
