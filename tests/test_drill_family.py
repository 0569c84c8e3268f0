"""Change drill: a model family is added by one folder and its rows in sam/families.py.

The edit is made in a copy of the packages, and true commands and workers are run on that copy.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sam", "hooks", "results", "benchmarking", "dashboards")
# Other names of modules, a square resize, another normalisation, and several outputs.
FAMILY = '''
"""A family of toy encoders."""

from __future__ import annotations

from ..family import BuildOptions, Built, Family, Model


def build(model, options: BuildOptions) -> Built:
    import torch

    from .encoder import ToyEncoder

    encoder = ToyEncoder(model.config).eval().requires_grad_(False)
    if options.is_meta:
        return Built(encoder.to("meta"), "none")
    generator = torch.Generator().manual_seed(options.seed)
    for weight in encoder.parameters():
        weight.data.normal_(std=0.1, generator=generator)
    return Built(encoder, f"random, seed {options.seed}")


def resize(pixels, image_size):
    import torch
    from torch.nn.functional import interpolate

    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    return interpolate(image, (image_size, image_size))[0].to(torch.uint8)


def preprocessor(image_size, device):
    return lambda pixels: pixels / 127.5 - 1


def embedding(output):
    return output["levels"][-1]


def embedding_shape(config, batch_size, image_size):
    return batch_size, config, image_size // 32, image_size // 32


TOY = Family(
    name="toy",
    title="Toy",
    build=build,
    resize=resize,
    preprocessor=preprocessor,
    embedding=embedding,
    embedding_shape=embedding_shape,
    image_multiple=32,
    block_names=r"trunk\\.stages\\.\\d+",
    no_masks="Toy has no mask decoder",
)
'''
ENCODER = '''
"""The encoder of the toy family."""

from torch import nn


class ToyEncoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.trunk = nn.Module()
        self.trunk.stages = nn.ModuleList(
            [nn.Conv2d(3, width, 16, 16), nn.Conv2d(width, width, 2, 2)]
        )

    def forward(self, images):
        if images.device.type != "meta":  # as the family normalises
            assert -1.01 < images.min() < -0.5 and 0.5 < images.max() < 1.01
        levels = []
        for stage in self.trunk.stages:
            images = stage(images)
            levels.append(images)
        return {"levels": levels}
'''
ROWS = {  # and what each becomes, in sam/families.py
    "import SAM1\n": "import SAM1\nfrom .toy.family import TOY\n",
    "in (SAM1,)}": "in (SAM1, TOY)}",
    "for model in (\n": 'for model in (\n        Model("toy_s", TOY.name, 8, "a small toy"),\n',
}
SWEEP = (
    "sweep -m toy_s -s 64 -b 1,2 -p fp32,bf16 --input images --device cpu --warmup-s 0 "
    "--warmup-forwards 1 --warmup-cap-s 0.1 --min-timed-s 0 --max-timed-s 0.2 --min-forwards 2 "
    "--min-slow-forwards 2 --module-forwards 2 "
    "--passes latency,modules,memory,flops,embedding_error,components,mask_generator"
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the packages with one family more."""
    folder = tmp_path_factory.mktemp("copy")
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    toy = folder / "sam" / "toy"
    toy.mkdir()
    for name, text in (("__init__", '"""A toy."""\n'), ("family", FAMILY), ("encoder", ENCODER)):
        (toy / f"{name}.py").write_text(text)
    families = folder / "sam" / "families.py"
    text = families.read_text()
    for old, new in ROWS.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    families.write_text(text)
    return folder


@pytest.fixture(scope="module")
def call(copy, tmp_path_factory):
    """Run sam-bench as it is in the copy."""
    here = tmp_path_factory.mktemp("here")

    def run(line, code=0):
        start = "from benchmarking.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-P", "-c", start, *line.split()], cwd=here, text=True,
            capture_output=True, check=False,
            env={**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    run.folder = here
    return run


@pytest.fixture(scope="module")
def swept(call):
    """What a sweep of the new model prints, by true workers."""
    return call(SWEEP)


@pytest.fixture(scope="module")
def records(swept, call):
    paths = sorted(call.folder.glob("runs/*/cases/*.json"))
    return [json.loads(path.read_text()) for path in paths]


def test_the_model_is_listed_with_its_summary(call):
    assert "a small toy" in call("choices")


def test_a_plan_has_its_cases_and_expects_a_time(call):
    planned = call("plan -m toy_s,tiny -s 64 -b 1,2 --device cpu")

    assert "toy_s" in planned


def test_every_case_is_measured_and_every_self_check_of_the_output_passes(records):
    outputs = [record["measurement"]["output"] for record in records]

    assert [record["status"] for record in records] == ["ok"] * 4, records
    assert {tuple(output["shape"]) for output in outputs} == {(1, 8, 2, 2), (2, 8, 2, 2)}
    assert {output["dtype"] for output in outputs} == {"float32", "bfloat16"}


def test_a_case_has_no_attention_but_its_own_and_random_weights(records):
    assert {record["case"]["attention"] for record in records} == {"own"}
    assert {record["measurement"]["weights"] for record in records} == {"random, seed 0"}


def test_blocks_are_timed_by_the_names_of_the_family(swept, call):
    names = {row["module"] for row in exported(call, "modules")}

    assert names >= {"trunk.stages.0", "trunk.stages.1"}


def test_flops_are_counted_where_the_family_knows_no_formula(swept, call):
    flops = {float(row["flops"]) for row in exported(call, "cases") if row["batch_size"] == "1"}

    assert flops == {2 * 8 * (3 * 16 * 16) * 16 + 2 * 8 * (8 * 2 * 2) * 4}


def test_what_the_family_lacks_is_a_note_with_the_reason(records):
    for record in records:
        notes = record["measurement"]["notes"]
        for name in ("components", "mask_generator"):
            assert notes[name] == "unsupported: Toy has no mask decoder"


def test_show_and_compare_and_the_report_have_the_model(swept, call):
    (sweep_id,) = [path.name for path in call.folder.glob("runs/2*")]

    assert "toy_s" in call("show")
    assert "trunk.stages.1" in call("show modules")
    assert "toy_s" in call(f"compare {sweep_id} {sweep_id} --format json")
    call("report report.html runs")
    assert "toy_s" in (call.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("-s 80", "--image-size must be a multiple of 32 for toy_s, got 80."),
        ("-p int8", "int8 needs to know the large linear layers, which Toy does not name"),
        ("--execution onnxruntime", "onnxruntime needs an ONNX export, which Toy does not have"),
        ("--weights .", "There is no official checkpoint of toy_s: use --weights random."),
    ],
)
def test_what_the_family_can_not_do_is_refused_with_the_reason(call, flags, reason):
    assert reason in call(f"sweep -m toy_s -b 1 --device cpu -s 64 {flags}", code=2)


def test_a_wrong_name_is_refused_with_a_suggestion(call):
    assert "Did you mean 'toy_s'?" in call("sweep -m toy_x", code=2)


def test_a_command_about_masks_is_refused_with_the_reason(call):
    (call.folder / "one.png").write_bytes((ROOT / sample()).read_bytes())
    line = "masks -i one.png -o masks -m toy_s --checkpoint random"

    assert "Toy has no mask decoder" in call(line, code=2)


def sample() -> Path:
    """A photograph of the sample images."""
    return next((ROOT / "benchmarking" / "sample_images").glob("*.jpg"))


def exported(call, view):
    """Rows of a view, as the export has them."""
    path = call.folder / f"{view}.csv"
    path.unlink(missing_ok=True)
    call(f"export csv {view}")
    with path.open() as file:
        return list(csv.DictReader(file))
