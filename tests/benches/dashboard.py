"""How fast the pages are on a large store: `make bench-dashboard`.

A made-up store of many records is written to a temporary folder; all figures are of this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from urllib.request import Request, urlopen

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarking.demo import demo
from results.records.measurement import Modules
from results.records.schema import Record, SweepFile
from results.records.store import Store, to_json

SAM_BENCH = Path(sys.executable).with_name("sam-bench")
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--enable-unsafe-swiftshader",
]  # fmt: skip
MODULE_SAMPLES = 4
FILTERS = (
    "?model=vit_b", "?model=vit_l&precision=bf16", "?device=NVIDIA+L4", "?precision=fp16",
    "?batch_size=1&batch_size=8", "?device=NVIDIA+H200&attention=sdpa", "?attention=reference", "",
)  # fmt: skip
INDEXING = (
    "import sys; from results.records.store import Store; "
    "from results.tables.index import refresh; refresh(Store(sys.argv[1]), processes=2)"
)
PICTURES = ("throughput", "latency", "speedup", "efficiency")  # of one page, in its order
CHANGES = 3  # of each filter
FIGURES_ASKED = ("throughput", "latency", "components", "layers", "memory", "roofline", "cost")


def write_store(path: Path, count: int) -> int:
    """Records of the demonstration, over and over, a day later each; how many samples they hold."""
    store, random = Store(path), np.random.default_rng(0)
    plans = [plan for plan in demo.plan_sweeps() if not plan[2]][: len(demo.GPUS)]
    templates = [(sweep, demo.measure_all(sweep, gpu, {}, random)) for sweep, gpu, _ in plans]
    written = samples = day = 0
    while written < count:
        for sweep, records in templates:
            later = sweep_of_day(sweep, day)
            store.write_sweep(later)
            (path / later.sweep_id / "cases").mkdir(parents=True, exist_ok=True)
            for record in records[: count - written]:
                own = record_of_day(record, later, float(random.lognormal(0, 0.005)))
                # Without fsync: whether it survives a power cut does not matter here.
                store.case_path(own.sweep_id, own.case_id).write_text(to_json(own))
                written += 1
                samples += samples_of(own)
        day += 1
    return samples


def sweep_of_day(sweep: SweepFile, day: int) -> SweepFile:
    when = demo.BEGAN + timedelta(days=day)
    return sweep.model_copy(
        update={
            "sweep_id": f"{when:%Y%m%d}-{sweep.sweep_id.partition('-')[2]}",
            "created_at": when.isoformat(timespec="seconds"),
        }
    )


def record_of_day(record: Record, sweep: SweepFile, factor: float) -> Record:
    """The same a little faster or slower, with its blocks alone and few samples of each."""
    update = {"sweep_id": sweep.sweep_id, "started_at": sweep.created_at}
    measurement = record.measurement
    if measurement is None or measurement.latency is None or measurement.modules is None:
        return record.model_copy(update=update)
    forward_s = tuple(seconds * factor for seconds in measurement.latency.forward_s)
    latency = measurement.latency.model_copy(update={"forward_s": forward_s})
    modules = {
        name: timing.model_copy(
            update={
                "total_s": timing.total_s[:MODULE_SAMPLES],
                "self_s": timing.self_s[:MODULE_SAMPLES],
            }
        )
        for name, timing in measurement.modules.items()
        if name.count(".") < 2
    }
    own = measurement.with_passes(latency=latency, modules=Modules(timings=modules))
    return record.model_copy(update=update | {"measurement": own})


def samples_of(record: Record) -> int:
    measurement = record.measurement
    if measurement is None or measurement.latency is None:
        return 0
    modules = (measurement.modules or {}).values()
    return len(measurement.latency.forward_s) + sum(
        len(timing.total_s) + len(timing.self_s) for timing in modules
    )


@contextmanager
def serving(store: Path) -> Iterator[tuple[psutil.Process, str, float]]:
    """The pages in a process of their own: it, its address, and when it was started."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "dashboards", "dashboard", "--port", "0", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split(" at ")[1].split()[0]
            yield psutil.Process(process.pid), address, began
        finally:
            process.terminate()


def draw(address: str, figure: str, search: str) -> float:
    """Ask for a figure as a browser does; seconds until all of it is there."""
    graph = {"name": figure, "part": "graph"}
    name = json.dumps(graph, separators=(",", ":"), sort_keys=True)
    every = '{"name":["MATCH"],"part":"graph"}'
    body = {
        "output": f"..{every}.figure...{every}.style..",
        "outputs": [{"id": graph, "property": each} for each in ("figure", "style")],
        "inputs": [
            {"id": "url", "property": "search", "value": search},
            {"id": "stamp", "property": "data", "value": ""},
            {"id": "dark", "property": "checked", "value": False},
        ],
        "state": [{"id": graph, "property": "id", "value": graph}],
        "changedPropIds": ["url.search"],
    }
    began = time.perf_counter()
    question = Request(
        f"{address}_dash-update-component",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    answer = json.load(urlopen(question))
    assert answer["response"][name]["figure"]["data"], f"{figure} of {search} is empty"
    return time.perf_counter() - began


def timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def in_browser(address: str, report: Path) -> dict[str, float]:
    """Seconds from a filter to its first picture and to all four, and of opening a report; nothing
    without a browser.
    """
    if not Path(CHROMIUM).exists():
        return {}
    from playwright.sync_api import sync_playwright

    drawn = """name => { const at = JSON.stringify({name: name, part: 'graph'});
        const holder = document.getElementById(at);
        const plot = holder && holder.querySelector('.js-plotly-plot');
        return plot && plot._fullData ? plot._fullData.length : 0; }"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        # Waiting evaluates text in the page, which our policy forbids, and rightly so.
        page = browser.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        page.goto(f"{address}scaling")
        page.wait_for_function(f"({drawn})('throughput') > 0")
        firsts, alls = [], []
        for model in ("vit_b", "vit_l", "vit_h") * CHANGES:
            before = [page.evaluate(drawn, name) for name in PICTURES]
            page.get_by_role("textbox", name="Model", exact=True).click()
            option = page.get_by_role("option", name=model, exact=True)
            began = time.perf_counter()
            option.click()
            changed = f"([name, count]) => ({drawn})(name) != count"
            arrived = []
            for name, count in zip(PICTURES, before, strict=True):
                page.wait_for_function(changed, arg=[name, count])
                arrived.append(time.perf_counter() - began)
            firsts.append(arrived[0])
            alls.append(arrived[-1])
            page.keyboard.press("Escape")
            page.wait_for_load_state("networkidle")
        sheet = browser.new_page()
        began = time.perf_counter()
        sheet.goto(report.as_uri())
        sheet.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
        opened = time.perf_counter() - began
        browser.close()
    return {
        "filter to picture, in a browser": median(firsts),
        "filter to all four pictures": median(alls),
        "report opened": opened,
    }


@click.command()
@click.option("--records", default=10_000, show_default=True)
@click.option("--report-records", default=500, show_default=True)
def main(records: int, report_records: int) -> None:
    """Print each figure beside its bar."""
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        store, small = Path(folder, "runs"), Path(folder, "small")
        samples = write_store(store, records)
        write_store(small, report_records)
        index = [sys.executable, "-c", INDEXING, str(store)]
        rows.append(("index built", f"{timed(lambda: run(index)):.1f} s", "60 s"))
        rows.append(("the same again, nothing new", f"{timed(lambda: run(index)):.1f} s", ""))
        report = Path(folder, "out.html")
        run([str(SAM_BENCH), "report", str(report), str(small)])
        size = report.stat().st_size / 2**20
        rows.append((f"report of {report_records} records", f"{size:.1f} MiB", "15 MB"))
        with serving(store) as (process, address, began):
            draw(address, "throughput", "")
            rows.append(
                ("start to the first figure", f"{time.perf_counter() - began:.1f} s", "3 s")
            )
            times = {
                name: median(draw(address, name, search) for search in FILTERS)
                for name in FIGURES_ASKED
            }
            for name, seconds in times.items():
                rows.append((f"filter change: {name}", f"{seconds * 1e3:.0f} ms", "300 ms"))
            bars = ("1 s", "", "3 s")
            for (name, seconds), bar in zip(
                in_browser(address, report).items(), bars, strict=False
            ):
                rows.append((name, f"{seconds:.2f} s", bar))
            memory = process.memory_info().rss / 1e9
            rows.append(("memory of the server", f"{memory:.2f} GB", "1.5 GB"))
    table = Table("what", "measured", "bar", title=f"{records} records, {samples} samples")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
