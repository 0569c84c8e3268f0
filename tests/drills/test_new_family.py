"""A model family is one folder in sam/ and rows in sam/families.py: then it works everywhere."""

from __future__ import annotations

import csv
import json

import pytest

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
def copy(make_copy):
    """The packages with one family more, after a sweep of its model by true workers."""
    copy = make_copy()
    toy = copy.folder / "sam" / "toy"
    toy.mkdir()
    for name, text in (("__init__", '"""A toy."""\n'), ("family", FAMILY), ("encoder", ENCODER)):
        (toy / f"{name}.py").write_text(text)
    for old, new in ROWS.items():
        copy.edit("sam/families.py", old, new)
    copy.sam_bench(SWEEP)
    return copy


@pytest.fixture(scope="module")
def records(copy):
    paths = sorted(copy.folder.glob("runs/*/cases/*.json"))
    return [json.loads(path.read_text()) for path in paths]


def exported(copy, view):
    """Rows of a view, as the export has them."""
    copy.sam_bench(f"export csv {view}")
    with (copy.folder / f"{view}.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_model_is_listed_with_its_summary(copy):
    assert "a small toy" in copy.sam_bench("choices")


def test_a_plan_has_its_cases_and_expects_a_time(copy):
    planned = copy.sam_bench("plan -m toy_s,tiny -s 64 -b 1,2 --device cpu")

    assert "toy_s" in planned


def test_every_case_is_measured_and_every_self_check_of_the_output_passes(records):
    outputs = [record["measurement"]["output"] for record in records]

    assert [record["status"] for record in records] == ["ok"] * 4, records
    assert {tuple(output["shape"]) for output in outputs} == {(1, 8, 2, 2), (2, 8, 2, 2)}
    assert {output["dtype"] for output in outputs} == {"float32", "bfloat16"}


def test_a_case_has_no_attention_but_its_own_and_random_weights(records):
    assert {record["case"]["attention"] for record in records} == {"own"}
    assert {record["measurement"]["weights"] for record in records} == {"random, seed 0"}


def test_blocks_are_timed_by_the_names_of_the_family(copy):
    names = {row["module"] for row in exported(copy, "modules")}

    assert names >= {"trunk.stages.0", "trunk.stages.1"}


def test_flops_are_counted_where_the_family_knows_no_formula(copy):
    flops = {float(row["flops"]) for row in exported(copy, "cases") if row["batch_size"] == "1"}

    assert flops == {2 * 8 * (3 * 16 * 16) * 16 + 2 * 8 * (8 * 2 * 2) * 4}


def test_what_the_family_lacks_is_a_note_with_the_reason(records):
    for record in records:
        notes = record["measurement"]["notes"]
        for name in ("components", "mask_generator"):
            assert notes[name] == "unsupported: Toy has no mask decoder"


def test_show_and_compare_and_the_report_have_the_model(copy):
    (sweep_id,) = [path.name for path in copy.folder.glob("runs/2*")]

    assert "toy_s" in copy.sam_bench("show")
    assert "trunk.stages.1" in copy.sam_bench("show modules")
    assert "toy_s" in copy.sam_bench(f"compare {sweep_id} {sweep_id} --format json")
    copy.sam_bench("report report.html runs")
    assert "toy_s" in (copy.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("-s 80", "--image-size must be a multiple of 32 for toy_s, got 80."),
        ("-p int8", "int8 needs to know the large linear layers, which Toy does not name"),
        ("--execution onnxruntime", "onnxruntime needs an ONNX export, which Toy does not have"),
        ("--weights .", "There is no official checkpoint of toy_s: use --weights random."),
    ],
)
def test_what_the_family_can_not_do_is_refused_with_the_reason(copy, flags, reason):
    assert reason in copy.refusal(f"sweep -m toy_s -b 1 --device cpu -s 64 {flags}")


def test_a_wrong_name_is_refused_with_a_suggestion(copy):
    assert "Did you mean 'toy_s'?" in copy.refusal("sweep -m toy_x")


def test_a_command_about_masks_is_refused_with_the_reason(copy):
    line = "masks -i benchmarking/sample_images -o masks -m toy_s --checkpoint random"

    assert "Toy has no mask decoder" in copy.refusal(line)
