"""The command line: parse, call, print. What a command needs is imported when it runs."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from results.schema import Environment, Record, TimingPlan
    from results.store import Contents

    from .sweep import Sweep

EXIT_USAGE, EXIT_FAILED_CASES, EXIT_INTERRUPTED = 2, 5, 130
LONGEST_ERROR = 1000  # characters; a name from the command line can have 100,000
FORMATS = ("table", "json", "csv", "md")
VIEW_NAMES = ("case", "component", "module")


class Mistake(click.ClickException):
    """A person's mistake: one line, exit code 2."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str) -> None:
        line = "".join(char if char.isprintable() else "?" for char in " ".join(message.split()))
        if len(line) > LONGEST_ERROR:  # what to do stands at its end
            line = f"{line[: LONGEST_ERROR // 2]} ... {line[-LONGEST_ERROR // 2 :]}"
        super().__init__(line)


def check_store_path(ctx: click.Context, parameter: click.Parameter, value: Path) -> Path:
    if os.path.realpath(value) == "/":
        raise Mistake("--store must be a folder of its own, got '/': name one, such as ./runs.")
    return value


store_option = click.option(
    "--store",
    "store_path",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    callback=check_store_path,
    help="Folder of the records.",
)


class Group(click.Group):
    """Turns errors that a person can mend into one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            click.echo(f"Interrupted. {stop}".strip(), err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            if is_persons_mistake(error):
                raise Mistake(str(error)) from error
            raise


def is_persons_mistake(error: Exception) -> bool:
    from results.store import StoreError
    from sam.download import DownloadError

    from .environment import ProbeError
    from .inputs import InputError
    from .sweep import SweepError

    return isinstance(error, StoreError | DownloadError | ProbeError | InputError | SweepError)


class SweepCommand(click.Command):
    """A command whose flags are the fields of Sweep and TimingPlan.

    They are made when the command is asked for, so that `sam-bench --help` stays quick.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_flag = super().get_params(ctx)
        return [*own, *sweep_flags(), help_flag]


def sweep_flags() -> list[click.Parameter]:
    """An option a field; the text is parsed by benchmarking.sweep, which knows the limits."""
    from results.schema import TimingPlan

    from .sweep import Sweep

    short = {"model": "-m", "batch_size": "-b", "image_size": "-s", "precision": "-p"}
    flags: list[click.Parameter] = []
    for fields in (Sweep.model_fields, TimingPlan.model_fields):
        for name, field in fields.items():
            names = [short[name]] if name in short else []
            default = field.default
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
            ending = f"  [default: {shown}]" if shown is not None else ""
            flags.append(
                click.Option(
                    [*names, "--" + name.replace("_", "-")],
                    metavar="VALUES" if fields is Sweep.model_fields else "VALUE",
                    help=f"{field.description}{ending}",
                )
            )
    return flags


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sam-encoder-bench", prog_name="sam-bench")
def main() -> None:
    """What one image costs in SAM's image encoder, and where the time goes.

    \b
    Example:
      sam-bench quickstart
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the locale can't show is no reason to end.
            stream.reconfigure(errors="backslashreplace")


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A TOML file of the settings below, by name; flags win over it.",
)
quick_option = click.option(
    "--quick", is_flag=True, help="Shorter warm-up and timing: a first look, wider intervals."
)


@main.command(cls=SweepCommand)
@config_option
@quick_option
@store_option
@click.option("--fresh", is_flag=True, help="Measure again what an equal sweep has measured.")
@click.option("--no-prune", is_flag=True, help="Try larger batches after one that did not fit.")
@click.option("--launcher", default="local", show_default=True, help="Where the cases run.")
def sweep(
    config: Path | None,
    quick: bool,
    store_path: Path,
    fresh: bool,
    no_prune: bool,
    launcher: str,
    **flags: str | None,
) -> None:
    """Measure every combination of the axes; a stopped sweep goes on where it was.

    VALUES are separated by commas; batch sizes may be a range of powers of two, 1..64.

    \b
    Example:
      sam-bench sweep -m vit_b -b 1,2,4 -s 256 --attention reference,sdpa --quick
    """
    asked, plan = asked_sweep(config, quick, flags)
    run(asked, plan, store_path, fresh=fresh, prunes=not no_prune, launcher=launcher)


def asked_sweep(
    config: Path | None, quick: bool, flags: dict[str, str | None]
) -> tuple[Sweep, TimingPlan]:
    """The sweep of a TOML file and flags."""
    from .sweep import parse_sweep, read_config

    settings: dict[str, object] = read_config(config) if config is not None else {}
    settings |= {name: value for name, value in flags.items() if value is not None}
    asked, plan, notes = parse_sweep(settings, quick)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return asked, plan


def run(
    asked: Sweep,
    plan: TimingPlan,
    store_path: Path,
    *,
    fresh: bool = False,
    prunes: bool = True,
    launcher: str = "local",
    environment: Environment | None = None,
) -> None:
    """Run a sweep, show its tables and what to do next; exit 5 where a case failed."""
    from results.schema import FAILED
    from results.store import Store

    from .environment import probe_environment
    from .inputs import check_images
    from .launchers import find_launcher
    from .progress import make_watcher
    from .report import failure_lines, note_lines, status_line
    from .runner import Options, run_sweep

    chosen = find_launcher(launcher)
    check_images(plan.images, asked.input)
    environment = environment or probe_environment()
    cases = asked.cases(environment)
    store = Store(store_path)
    console = out()
    try:
        sweep_id = run_sweep(
            cases,
            plan,
            environment,
            store,
            chosen,
            make_watcher(console),
            shlex.join(["sam-bench", *sys.argv[1:]]),
            Options(is_fresh=fresh, prunes=prunes),
        )
    except KeyboardInterrupt as stop:
        again = "The same command goes on where this one stopped"
        raise KeyboardInterrupt(f"{again}{', without --fresh' * fresh}.") from stop
    records = store.read(sweep_id).records
    show_views(records, VIEW_NAMES, "table", console)
    for line in failure_lines(records):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in note_lines(records):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(status_line(len(cases), records), highlight=False)
    if any(record.case.weights == "random" for record in records):
        console.print(
            "Weights: random, seeded. They cost what trained ones cost; masks mean nothing."
        )
    console.print(f"Records: {store_path / sweep_id}", highlight=False, soft_wrap=True)
    program = shlex.quote(sys.argv[0])  # as it was typed, so that the line can be typed too
    console.print(
        f"Next: {program} show --by module, {program} sweep --help, {program} doctor",
        highlight=False,
        soft_wrap=True,
    )
    if any(record.status in FAILED for record in records):
        sys.exit(EXIT_FAILED_CASES)


@main.command(cls=SweepCommand)
@config_option
@quick_option
@store_option
def plan(config: Path | None, quick: bool, store_path: Path, **flags: str | None) -> None:
    """Show the cases that a sweep would measure, and about how long it would take.

    \b
    Example:
      sam-bench plan -m vit_b,vit_l -b 1..8 -p fp32,bf16
    """
    from results.store import Store

    from .environment import probe_environment
    from .estimate import measured_rates, rate_key, sweep_seconds
    from .inputs import check_images
    from .progress import duration
    from .report import plan_view, print_view
    from .sweep import unsupported_reason

    asked, timing = asked_sweep(config, quick, flags)
    check_images(timing.images, asked.input)
    environment = probe_environment()
    cases = asked.cases(environment)
    records = Store(store_path).read().records
    rates = measured_rates(
        record for record in records if record.environment.hostname == environment.hostname
    )
    print_view(plan_view(cases, environment), out())
    possible = [case for case in cases if unsupported_reason(case, environment) is None]
    is_known = all(rate_key(case) in rates for case in possible)
    basis = "from earlier records" if is_known else "partly a guess: not all was measured here"
    seconds = sweep_seconds(possible, timing, rates)
    click.echo(f"{len(possible)} cases to measure, about {duration(seconds)} ({basis}).")


@main.command()
@store_option
@click.option("--again", is_flag=True, help="Measure again, also where it is measured already.")
def quickstart(store_path: Path, again: bool) -> None:
    """Measure SAM's encoder on what this machine has: the first thing to type.

    A GPU runs vit_b and vit_l at 1024 pixels; a CPU runs vit_b at 256 pixels, in about a minute.

    \b
    Example:
      sam-bench quickstart
    """
    from .environment import probe_environment
    from .sweep import parse_sweep

    environment = probe_environment()
    has_gpu = bool(environment.gpus)
    settings = (
        {"model": "vit_b,vit_l", "batch_size": "1,2,4,8", "attention": "reference,sdpa"}
        if has_gpu
        else {"batch_size": "1,2", "image_size": "256", "attention": "reference,sdpa"}
    )
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    click.echo(f"This is short for: sam-bench sweep {flags} --quick")
    if not has_gpu:
        click.echo("No GPU: a true vit_b, on smaller images (256 pixels instead of 1024).")
        for note in environment.notes:
            click.echo(f"note: {note}")
    asked, timing, _ = parse_sweep(settings, quick=True)
    run(asked, timing, store_path, fresh=again, environment=environment)


@main.command()
@store_option
@click.option("--by", type=click.Choice(VIEW_NAMES), default="case", show_default=True)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--sweep", "sweep_id", help="A sweep's id, or 'all'.  [default: the newest]")
def show(store_path: Path, by: str, form: str, sweep_id: str | None) -> None:
    """Show records: by case, by component of the pipeline, or by module of the encoder.

    Tables show milliseconds; json and csv hold base units (seconds, bytes, FLOP).

    \b
    Example:
      sam-bench show --by module
    """
    from .report import failure_lines, status_line

    contents = read_store(store_path, sweep_id)
    show_views(contents.records, (by,), form, out())
    if form == "table":
        for line in failure_lines(contents.records):
            click.echo(line)
        planned = {
            (sweep.sweep_id, case.case_id) for sweep in contents.sweeps for case in sweep.cases
        }
        # Those of a sweep whose plan can't be read too.
        planned |= {(record.sweep_id, record.case_id) for record in contents.records}
        click.echo(status_line(len(planned), contents.records))


@main.command()
@click.argument("form", type=click.Choice(("csv", "parquet")))
@store_option
@click.option("--by", type=click.Choice(VIEW_NAMES), default="case", show_default=True)
@click.option("--sweep", "sweep_id", default="all", show_default=True, help="A sweep's id.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A new file.")
def export(form: str, store_path: Path, by: str, sweep_id: str, output: Path | None) -> None:
    """Write records as one tidy table in base units.

    \b
    Example:
      sam-bench export csv --by module -o modules.csv
    """
    frame = frame_of(read_store(store_path, sweep_id).records, by)
    output = output or Path(f"{by}s.{form}")
    try:
        if output.exists():
            raise Mistake(f"'{output}' exists: name another file with --output, or move it away.")
        if form == "csv":
            frame.to_csv(output, index=False)
        else:
            frame.to_parquet(output, index=False)
    except OSError as error:
        reason = error.strerror or error  # pandas gives a text alone
        raise Mistake(f"'{output}' can't be written: {reason}.") from error
    click.echo(f"{len(frame)} rows in {output}")


@main.command()
def choices() -> None:
    """List what each axis can be.

    \b
    Example:
      sam-bench choices
    """
    from .report import choices_views, print_view

    for view in choices_views():
        print_view(view, out())


@main.command()
@store_option
def doctor(store_path: Path) -> None:
    """Say what this machine has, and whether everything that a sweep needs works.

    \b
    Example:
      sam-bench doctor
    """
    from .doctor import examine

    findings = examine(store_path)
    for finding in findings:
        click.echo(f"{'ok ' if finding.is_fine else 'BAD'} {finding.name}: {finding.detail}")
    if not all(finding.is_fine for finding in findings):
        sys.exit(EXIT_FAILED_CASES)


@main.command()
@click.argument("model")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("checkpoints"),
    show_default=True,
    help="Folder for the file.",
)
@click.option("--base-url", help="Where the file lies, for a mirror.  [default: Meta's server]")
def download(model: str, folder: Path, base_url: str | None) -> None:
    """Fetch a model's official weights; a stopped download goes on where it was.

    \b
    Example:
      sam-bench download vit_b
    """
    from sam.configs import MODELS, OFFICIAL_URL
    from sam.download import download as fetch

    from .progress import byte_progress
    from .sweep import quoted, suggestion

    official = MODELS[model].checkpoint if model in MODELS else None
    if official is None:
        known = [name for name, config in MODELS.items() if config.checkpoint]
        raise Mistake(f"No official checkpoint of {quoted(model)}.{suggestion(model, known)}")
    with byte_progress(official.filename, official.size_bytes, out(stderr=True)) as on_progress:
        path = fetch(official, folder, base_url or OFFICIAL_URL, on_progress)
    click.echo(f"{path}: verified. Use it with: sam-bench sweep -m {model} --weights {path}")


def out(stderr: bool = False) -> Console:
    """A console of the terminal's width; wide where there is none, so that no table is cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200)


def read_store(store_path: Path, sweep_id: str | None) -> Contents:
    """Records of one sweep (the newest where None) or all; files passed over are named."""
    from results.store import Store

    from .report import harmless
    from .sweep import quoted, suggestion

    store = Store(store_path)
    ids = store.sweep_ids()
    if not ids:
        raise Mistake(f"'{store_path}' has no records: measure some with: sam-bench quickstart")
    if sweep_id is not None and sweep_id not in ("all", *ids):
        raise Mistake(f"No sweep {quoted(sweep_id)} in '{store_path}'.{suggestion(sweep_id, ids)}")
    contents = store.read(None if sweep_id == "all" else sweep_id or ids[-1])
    for problem in contents.problems:
        click.echo(harmless(f"passed over {problem.path}: {problem.reason}"), err=True)
    return contents


def frame_of(records: list[Record], by: str) -> Any:
    from results import frames

    make: dict[str, Callable[..., Any]] = {
        "case": frames.case_frame,
        "component": frames.component_frame,
        "module": frames.module_frame,
    }
    return make[by](records)


def show_views(records: list[Record], names: tuple[str, ...], form: str, console: Console) -> None:
    from .report import VIEWS, markdown, print_view

    for by in names:
        frame = frame_of(records, by)
        if form == "csv":
            click.echo(frame.to_csv(index=False), nl=False)
        elif form == "json":
            click.echo(
                json.dumps(
                    json.loads(frame.to_json(orient="records", double_precision=15)), indent=1
                )
            )
        elif form == "md":
            click.echo("\n\n".join(markdown(view) for view in VIEWS[by](frame)))
        elif len(frame):
            for view in VIEWS[by](frame):
                print_view(view, console)


if __name__ == "__main__":
    main()
