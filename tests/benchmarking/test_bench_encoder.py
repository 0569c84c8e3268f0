"""make bench-encoder: encoders in turn, in one process, with a record of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from results.records.store import Store
from results.tables.frames import case_frame
from tests.benches.encoder import check_axes

ROOT = Path(__file__).parents[2]
ENCODERS = "upstream,transformers,auto eager,auto cudagraphs"


def bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.benches.encoder", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """Of a true ViT-B, in eight bits and beside upstream in bf16."""
    store = tmp_path_factory.mktemp("bench") / "runs"
    said = bench(
        "--image-size", "32", "--batch-size", "1,2", "--precision", "bf16,int8", "--rounds", "2",
        "--encoder", ENCODERS, "--store", str(store),
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said, case_frame(Store(store).read().records)


def cells(answer):
    lines = [line for line in answer[0].stdout.splitlines() if line.startswith("| vit_b")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_encoder_precision_and_batch_has_a_row_and_a_record(answer):
    rows = {tuple(row[1:4]) for row in cells(answer)}
    others = {("bf16", "upstream"), ("bf16", "transformers")}
    wanted = others | {("bf16", "auto eager"), ("int8", "auto eager")}

    assert rows == {(precision, size, name) for precision, name in wanted for size in ("1", "2")}
    assert len(answer[1]) == len(rows)
    assert set(answer[1]["status"]) == {"ok"}


def test_upstream_is_once_as_fast_as_itself_and_the_others_have_a_ratio(answer):
    ratios = {(row[1], row[3]): row[4] for row in cells(answer)}

    assert ratios["bf16", "upstream"] == "1.00x"
    assert all(ratio.endswith("x") and float(ratio[:-1]) > 0 for ratio in ratios.values())


def test_all_have_the_same_weights_so_that_errors_are_those_of_the_format(answer):
    errors = answer[1].groupby("precision")["embedding_error"]

    assert 0 < errors.max()["bf16"] < errors.min()["int8"] < 0.2


def test_a_peak_is_that_of_the_encoder_without_those_beside_it(answer):
    least = answer[1]["weights_bytes"]

    assert (answer[1]["peak_bytes"] >= least).all()
    assert (answer[1]["peak_bytes"] < 3 * least).all()


def test_what_can_not_run_here_is_left_out_with_the_reason(answer):
    assert "auto cudagraphs in int8 is left out: cudagraphs needs a CUDA GPU" in answer[0].stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--encoder", "fastest"), ("--encoder", "auto sideways"), ("--model", "vit_x"),
     ("--precision", "fp3"), ("--batch-size", "0"), ("--batch-size", "00")],
)  # fmt: skip
def test_what_is_not_known_is_refused(option, value):
    axes = {"--model": "vit_b", "--precision": "fp32", "--batch-size": "1", "--encoder": "upstream"}
    named = axes | {option: value}

    with pytest.raises(click.UsageError, match=f"{option}.* does not know '{value.split()[-1]}'"):
        check_axes([[name] for name in named.values()])


def test_what_is_known_is_let_pass():
    names = ["upstream", "upstream compile", "fold+triton cudagraphs"]

    assert check_axes([["vit_h"], ["int8"], ["16"], names]) is None


def test_in_float32_others_compute_what_upstream_does(tmp_path):
    said = bench(
        "--image-size", "32", "--precision", "fp32", "--rounds", "1", "--store", str(tmp_path),
        "--encoder", "upstream,transformers",
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    errors = case_frame(Store(tmp_path).read().records)["embedding_error"]

    assert errors.max() < 1e-5
