"""What gates share: when a change counts, and where a verdict is written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.records.errors import UserError

from .terminal import with_options

if TYPE_CHECKING:
    from results.verdicts.decision import Rule

FEWEST_PAIRS = 7  # that are all slower by a chance of 1 : 128
SUMMARY = "GITHUB_STEP_SUMMARY"  # a file that GitHub shows with a job


class Percent(click.ParamType):
    """A share, with its sign, since 3 and 0.03 could both be meant."""

    name = "PERCENT"

    def convert(self, value: Any, parameter: Any, context: Any) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", str(value).strip())
        if found is None or float(found[1]) > 100:
            named = parameter.opts[0] if parameter is not None else "it"
            raise UserError(
                f"{named} must be a percentage with its sign, such as 3%, got {value!a}."
            )
        return float(found[1]) / 100


class PairCounts(click.ParamType):
    """Numbers of pairs, ascending."""

    name = "PAIRS"

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        text = str(value)
        if re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4}){0,9}", text):
            looks = tuple(map(int, text.split(",")))
            if looks[0] >= FEWEST_PAIRS and list(looks) == sorted(set(looks)):
                return looks
        raise UserError(
            "--pairs must be ascending numbers of at least 7 pairs, since fewer can't tell, such "
            f"as 10,20,30, got {text[:60]!a}."
        )


# When a change counts.
rule_options = with_options(
    click.option(
        "--smallest", type=Percent(), default="3%", show_default=True,
        help="Least change that is reported.",
    ),
    click.option(
        "--margin", type=Percent(), default="1%", show_default=True,
        help="Change that nobody minds: what is tested is a larger one.",
    ),
    click.option(
        "--pairs", type=PairCounts(), default="10,20,30", show_default=True,
        help="After how many pairs it is looked whether enough is known.",
    ),
    click.option(
        "--order-seed", type=click.IntRange(0, 2**32 - 1), default=0,
        show_default=True, help="Of the order within pairs.",
    ),
)  # fmt: skip


new_file = click.Path(dir_okay=False, path_type=Path)
# Where a verdict is written, besides the terminal.
output_options = with_options(
    click.option(
        "--markdown", "markdown_path", type=new_file, help="File for Markdown for a pull request."
    ),
    click.option("--json", "json_path", type=new_file, help="File for JSON."),
    click.option("--junit", "junit_path", type=new_file, help="File for JUnit's XML."),
)


def checked_rule(margin: float, smallest: float, pairs: tuple[int, ...]) -> Rule:
    from results.verdicts.decision import Rule

    if margin >= smallest:
        raise UserError(f"--margin must be below --smallest, got {margin:.2%} and {smallest:.2%}.")
    return Rule(margin=margin, smallest=smallest, looks=pairs)


def write(path: Path, text: str) -> None:
    from results.records.store import write_whole

    if not path.name:
        raise UserError("A file to write must have a name, got an empty one.")
    write_whole(path, text, advice="Name another file.")


def add_to_summary(text: str) -> None:
    """Where a job's summary can't be written, the verdict counts all the same."""
    path = os.environ.get(SUMMARY)
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        click.echo(f"note: {SUMMARY} can't be written: {error.strerror}", err=True)


baselines_option = click.option(
    "--baselines",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("baselines"),
    show_default=True,
    help="Folder of what is expected, to be kept in git.",
)


def check_name(name: str) -> None:
    from results.verdicts.baselines import NAME

    if not re.fullmatch(NAME.strip("^$"), name) or name == "accepted":
        raise UserError(
            "A baseline's name must be of letters, digits, - and _, and not 'accepted', got "
            f"{name[:60]!a}."
        )
