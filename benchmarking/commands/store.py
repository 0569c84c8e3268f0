"""Commands about folders of records: store verify, store repair, merge, demo."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from results.records.errors import UserError, printable

from ..options.records import no_records
from ..options.terminal import EXIT_INVALID, find_store, store_option


@click.command()
@store_option
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the noise."
)
def demo(store_path: Path, seed: int) -> None:
    """Write a made-up store, to look around in without a GPU: nothing in it was measured.

    L4, L40S and H200; all models, four precisions, batches 1 to 32, some out of memory, a crash on
    each GPU, and a series over commits of which one is slower. Every table and figure says so.

    \b
    Example:
      sam-bench demo --store demo
    """
    from results.records.store import Store

    from ..demo.demo import write_demo

    opened = Store(store_path)
    if opened.sweep_ids():
        raise UserError(
            f"'{store_path}' holds records already, and made-up ones must not lie among measured "
            "ones: name a new folder with --store."
        )
    count = write_demo(opened, seed)
    click.echo(
        f"{count} made-up records in '{store_path}'; see: sam-bench show --store {store_path}"
    )


@click.group()
def store() -> None:
    """Look over the folder of records, and mend it.

    \b
    Example:
      sam-bench store verify
    """


@store.command()
@store_option
def verify(store_path: Path) -> None:
    """Say of every sweep what was planned, what is there, and what can't be used.

    Changes nothing. Ends with exit code 4 where something is missing or wrong.

    \b
    Example:
      sam-bench store verify
    """
    from results.records.repair import describe, look_over
    from results.records.store import Store

    looks = look_over(Store(store_path))
    if not looks:
        raise no_records(store_path)
    for look in looks:
        for line in describe(look):
            click.echo(printable(line))
    records = sum(len(look.records) for look in looks)
    bad = sum(not look.is_fine for look in looks)
    verdict = f"{bad} not fine, mended with: sam-bench store repair" if bad else "all fine"
    click.echo(f"{len(looks)} sweeps, {records} good records: {verdict}")
    if bad:
        sys.exit(EXIT_INVALID)


@store.command()
@store_option
def repair(store_path: Path) -> None:
    """Mend every sweep that no process is running; no record is deleted.

    Files that can't be used are moved to the sweep's folder 'broken', a lost sweep.json is rebuilt
    from the records, and what killed writers left is removed. The same sweep, typed again, then
    measures what is missing.

    \b
    Example:
      sam-bench store repair
    """
    from results.records.repair import repair as repair_store
    from results.records.store import Store

    opened = Store(store_path)
    if not opened.sweep_ids():
        raise no_records(store_path)
    ending = "Nothing to mend."
    for line in repair_store(opened):
        click.echo(printable(line))
        ending = "See what there is now with: sam-bench store verify"
    click.echo(ending)


@click.command()
@click.argument("stores", nargs=-1, required=True, metavar="STORE...")
@click.option("-o", "--output", required=True, metavar="STORE", help="That they are merged into.")
def merge(stores: tuple[str, ...], output: str) -> None:
    """Put the records of several stores into one, such as those of a sweep's shards.

    A record that several stores have is there once. Where they tell a case differently, one that
    was measured wins over one that crashed; else the first is kept, and the other is named and
    lies in the folder 'conflicts': that ends with exit code 4. The stores are not changed.

    \b
    Example:
      sam-bench merge runs-1 runs-2 -o runs
    """
    from results.records.merge import merge as merge_stores
    from results.records.store import Store

    target = Store(find_store(output))
    merged = merge_stores([Store(find_store(text)) for text in stores], target)
    for line in merged.conflicts:
        click.echo(printable(line), err=True)
    click.echo(
        f"{merged.copied} files copied, {merged.same} there already, {merged.replaced} told better "
        f"by another store, {len(merged.conflicts)} conflicts: {target.path}, which now holds "
        f"{len(target.sweep_ids())} sweeps. See: sam-bench store verify --store {target.path}"
    )
    if merged.conflicts:
        sys.exit(EXIT_INVALID)
