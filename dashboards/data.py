"""What the pages are made of: frames of some stores, filtered as an address says."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from results.answers.capacity import capacity_of_cases
from results.answers.compare import compare_cases, matched, module_changes
from results.answers.history import history_frame
from results.hardware.prices import Price, store_prices, with_cost
from results.records.addresses import UnreachableError
from results.records.errors import UserError
from results.records.reading import BrokenFileError, Problem, read_file
from results.records.schema import FAILED, Record, SweepFile
from results.records.store import Store
from results.tables.frames import (
    IDENTITY,
    WHERE,
    limits_of_frames,
    module_frame,
    sample_frame,
    telemetry_frame,
)
from results.tables.index import FRAMES, KEY, StoreIndex, refresh
from results.verdicts.gates import GateFile, read_gates

from .figures.scaling import with_gains
from .figures.series import current, with_device
from .view import FILTERS, ViewState

MOST_VIEWS = 3  # whose frames are kept: the figures of a page ask for the same ones
MOST_NOTES = 20
PRICE = re.compile(r"\s*(\S.{0,79}?)\s*=\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*")


NO_MODULES = module_frame([])


class UnknownRecordError(Exception):
    """An address names a record that no store has."""


@dataclass(frozen=True)
class Snapshot:
    """Some stores at a moment.

    stamp: Tells it from other moments.
    frames: By name; all but `cases` lack what the case of a row tells.
    files: Of each record.
    gates: What was judged, newest last.
    notes: What was passed over.
    errors: Why a store could not be read at all; what was read of it before is shown.
    """

    stamp: str = ""
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    sweeps: dict[str, Path] = field(default_factory=dict)
    prices: dict[str, Price] = field(default_factory=dict)
    gates: tuple[GateFile, ...] = ()
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class Data:
    """Some stores, read again when asked; a store that is gone keeps what was read of it.

    Args:
        paths: Of the stores; where two have the same record, the last one's counts.
        keep: Whether their indexes are written beside them.
        processes: That read, where files are many.
    """

    def __init__(self, paths: Sequence[Path], keep: bool = True, processes: int = 1) -> None:
        self.processes = processes
        self.stores = [Store(path) for path in paths]
        self.keep = keep
        self.snapshot = Snapshot()
        self._indexed: dict[Path, StoreIndex] = {}
        self._views: OrderedDict[str, Frames] = OrderedDict()
        self._lock = threading.Lock()  # of the snapshot and the views
        self._reading = threading.Lock()

    def refresh(self) -> Snapshot:
        """Read what has changed since the last time; others are answered meanwhile."""
        with self._reading:
            errors: list[str] = []
            prices: dict[str, Price] = {}
            gates: list[GateFile] = []
            problems: list[Problem] = []
            for store in self.stores:
                try:
                    self._indexed[store.path] = refresh(
                        store, self._indexed.get(store.path), self.keep, processes=self.processes
                    )
                    prices |= store_prices(store.path)
                    gates += read_gates(store, problems)
                except UserError as error:
                    errors.append(str(error))
            notes = [f"Passed over {each.path}: {each.reason}" for each in problems]
            snapshot = together(self._indexed, prices, gates, errors, notes)
            with self._lock:
                if snapshot.stamp != self.snapshot.stamp:
                    self._views.clear()
                self.snapshot = snapshot
            return snapshot

    def frames(self, view: ViewState) -> Frames:
        """Those that a view shows; made when they are asked for."""
        with self._lock:
            frames = self._views.pop(view.key, None) or Frames(self.snapshot, view)
            self._views[view.key] = frames
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
            return frames


def together(
    indexed: dict[Path, StoreIndex],
    prices: dict[str, Price],
    gates: Sequence[GateFile],
    errors: list[str],
    notes: list[str],
) -> Snapshot:
    """One snapshot of all stores."""
    files: dict[str, Path] = {}
    sweeps: dict[str, Path] = {}
    owner: dict[str, int] = {}
    for number, (store, each) in enumerate(indexed.items()):
        for path, file in each.files.items():
            if file.record_id is not None:
                owner[file.record_id] = number
                files[file.record_id] = store / path
                sweeps[path.partition("/")[0]] = store / path.partition("/")[0]
        passed_over = each.problems(store)
        notes += [f"Passed over {each.path}: {each.reason}" for each in passed_over[:MOST_NOTES]]
        if len(passed_over) > MOST_NOTES:
            notes.append(f"{len(passed_over) - MOST_NOTES} more files were passed over in {store}.")
    frames = {}
    for name in FRAMES:
        parts = [each.frames[name] for each in indexed.values()]
        if len(parts) > 1:  # of a record that several have, the last one's rows count everywhere
            parts = [rows[rows[KEY].map(owner) == number] for number, rows in enumerate(parts)]
        if parts:
            frames[name] = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    if frames:
        frames["cases"] = with_device(frames["cases"])
        frames["cases"] = with_cost(frames["cases"], prices)
    judged = (f"{gate.gate_id} {len(gate.pairs)}" for gate in gates)
    stamp = " ".join(
        [*(each.stamp for each in indexed.values()), *map(str, prices.items()), *judged]
    )
    told = (*errors, *notes)
    return Snapshot(stamp, frames, files, sweeps, prices, tuple(gates), told, tuple(errors))


class Frames(Mapping[str, pd.DataFrame]):
    """The frames of one view, by name; each is made once, when it is asked for."""

    def __init__(self, snapshot: Snapshot, view: ViewState) -> None:
        self.snapshot, self.view = snapshot, view
        self._made: dict[str, pd.DataFrame] = {}
        self._record: Record | None = None
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> pd.DataFrame:
        with self._lock:
            if name not in self._made:
                self._made[name] = MAKERS[name](self)
            return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MAKERS)

    def __len__(self) -> int:
        return len(MAKERS)

    def cases(self) -> pd.DataFrame:
        cases = self.snapshot.frames["cases"]
        for name, values in self.view.filters.items():
            cases = cases[cases[FILTERS[name].column].astype(str).isin(values)]
        prices, _ = asked_prices(self.view.option("prices"))
        priced = with_cost(cases, prices, self.snapshot.prices) if prices else cases
        return with_gains(priced)

    def of_cases(self, name: str, cases: pd.DataFrame) -> pd.DataFrame:
        """Rows of a frame, each with what its case tells."""
        rows = self.snapshot.frames[name]
        own = rows[rows[KEY].isin(cases[KEY])]
        return own.merge(cases[[*IDENTITY, *WHERE, "device_name"]], on=KEY, how="left", sort=False)

    def limits(self) -> pd.DataFrame:
        """Of cases alone where these are what is asked for: modules are many."""
        modules = self["modules"] if self.view.option("level") == "modules" else NO_MODULES
        return with_device(limits_of_frames(self["cases"], modules))

    def runs(self) -> tuple[str | None, str | None]:
        """The two sweeps that are compared: as asked, or the newest and the last that shares a
        case with it; None where there is none.
        """
        cases = self["cases"]
        case_ids = {
            str(sweep_id): set(rows) for sweep_id, rows in cases.groupby("sweep_id")["case_id"]
        }
        newest = sorted(case_ids, reverse=True)
        before, after = self.view.option("before"), self.view.option("after")
        if after not in case_ids:
            after = next(iter(newest), None)
        if before not in case_ids and after is not None:
            earlier = [each for each in newest if each < after]
            before = next((each for each in earlier if case_ids[each] & case_ids[after]), None)
        return (before if before in case_ids else None), after

    def comparison(self) -> pd.DataFrame:
        cases = self["cases"]
        before, after = (cases[cases["sweep_id"] == each] for each in self.runs())
        return compare_cases(before, after)

    def module_changes(self) -> pd.DataFrame:
        """Of one case's modules: as asked, or of the case that differs most."""
        both, modules = matched(self["comparison"]), self.snapshot.frames["modules"]
        both = both[both[KEY].isin(modules[KEY]) & both["after_record_id"].isin(modules[KEY])]
        asked = both[both[KEY] == self.view.option("case")]
        ids, made_up = [None, None], False
        if len(both):
            distance = np.abs(np.log(both["ratio"].to_numpy(dtype=float)))
            case = asked.iloc[0] if len(asked) else both.iloc[int(distance.argmax())]
            ids, made_up = [case[KEY], case["after_record_id"]], bool(case["is_synthetic"])
        sides = (modules[modules[KEY] == each].assign(is_synthetic=made_up) for each in ids)
        return module_changes(*sides)

    def record(self) -> Record:
        """The record that the address names; read once.

        Raises:
            UnknownRecordError: Where there is none, or its file can't be read any more.
        """
        with self._lock:
            if self._record is not None:
                return self._record
            asked = self.view.option("run")
            path = self.snapshot.files.get(asked or "")
            if path is None:
                raise UnknownRecordError(
                    "No record is chosen: click a point of a figure, or a row of Overview's table."
                    if asked is None
                    else "No store here has the record that this address names."
                )
            try:
                self._record = read_file(path, Record)
            except (BrokenFileError, UnreachableError) as error:
                raise UnknownRecordError(f"The record can't be read any more: {error}.") from error
            return self._record

    def trace_path(self) -> Path | None:
        """Of the record's Chrome trace, where one was asked for."""
        path = self.snapshot.files.get(self.view.option("run") or "")
        if path is None:
            return None
        trace = path.parents[1] / "traces" / f"{path.stem}.json.gz"
        # A store may be somebody else's: a link in it must not lead to another file.
        is_own = trace.resolve() == path.parents[1].resolve() / "traces" / trace.name
        return trace if is_own and trace.is_file() else None

    def sweeps(self) -> pd.DataFrame:
        """A row a sweep, the newest first: what it measured, and how it went."""
        cases = self["cases"]
        is_failed = cases["status"].isin(FAILED)
        counted = cases.assign(ok=cases["status"] == "ok", failed=is_failed)
        rows = counted.groupby("sweep_id", sort=False).agg(
            started_at=("started_at", "min"),
            devices=("device_name", in_words),
            models=("model", in_words),
            cases=("case_id", "size"),
            ok=("ok", "sum"),
            failed=("failed", "sum"),
            git_commit=("git_commit", "first"),
        )
        return rows.reset_index().sort_values("started_at", ascending=False, ignore_index=True)

    def prices(self) -> pd.DataFrame:
        """A row a GPU, with a price or without."""
        columns = ["gpu", "usd_per_hour", "price_source", "price_date"]
        known = self["cases"][self["cases"]["gpu"].notna()]
        return known[columns].drop_duplicates("gpu").reset_index(drop=True)

    def sweep(self, sweep_id: str) -> SweepFile | None:
        path = self.snapshot.sweeps.get(sweep_id)
        try:
            return read_file(path / "sweep.json", SweepFile) if path is not None else None
        except (BrokenFileError, UnreachableError):
            return None

    @property
    def is_empty(self) -> bool:
        return not self.snapshot.frames or self.snapshot.frames["cases"].empty


def in_words(values: pd.Series) -> str:
    """Each once, in their order."""
    return ", ".join(dict.fromkeys(values.dropna().astype(str)))


def asked_prices(text: str | None) -> tuple[dict[str, Price], str | None]:
    """Prices that a person tries, from 'L4=0.5, H200=3'; and what can't be used."""
    prices: dict[str, Price] = {}
    for part in filter(str.strip, (text or "").split(",")):
        found = PRICE.fullmatch(part)
        if found is None or not 0 < float(found[2]) <= 1e6:
            wrong = f"A price must be a GPU's name and USD an hour, as L4=0.5, got {part[:60]!a}."
            return {}, wrong
        price = float(found[2])
        prices[found[1]] = Price(usd_per_hour=price, source="what if", date=f"{date.today()}")
    return prices, None


MAKERS: dict[str, Callable[[Frames], pd.DataFrame]] = {
    "cases": Frames.cases,
    "current": lambda frames: current(frames["cases"]),
    "components": lambda frames: frames.of_cases("components", frames["cases"]),
    "modules": lambda frames: frames.of_cases("modules", frames["cases"]),
    "limits": Frames.limits,
    "history": lambda frames: history_frame(frames["cases"]),
    "capacity": lambda frames: capacity_of_cases(frames["current"]),
    "latest": lambda frames: frames["cases"].sort_values("started_at", ascending=False).head(200),
    "sweeps": Frames.sweeps,
    "prices": Frames.prices,
    "comparison": Frames.comparison,
    "module_changes": Frames.module_changes,
    "samples": lambda frames: sample_frame(frames.record()),
    "telemetry": lambda frames: telemetry_frame(frames.record()),
}
