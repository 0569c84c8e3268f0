"""Every family and every model, by what the contract promises to whoever measures them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sam
from sam.families import FAMILIES, MODELS
from sam.family import OWN, BuildOptions, Family, Model, official_of
from sam.quantise import EIGHT_BITS
from sam.work import Formats

SMALLEST = {  # of each family, its first model
    name: next(model for model in MODELS.values() if model.family == name) for name in FAMILIES
}


def size_of(family: Family) -> int:
    """A small image size that the family takes."""
    return 2 * (family.image_multiple or 32)


def built(name: str, **changes: object) -> nn.Module:
    family, model = FAMILIES[name], SMALLEST[name]
    given = {"image_size": size_of(family), "attention": family.reference_attention} | changes
    return family.build(model, BuildOptions(**given, models=MODELS)).model


@pytest.fixture(scope="module", params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def family(name):
    return FAMILIES[name]


@pytest.fixture(scope="module")
def on_meta(name):
    return built(name, is_meta=True)


# Tables


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_listed_under_its_name_and_has_a_family(name):
    assert MODELS[name].name == name
    assert MODELS[name].family in FAMILIES
    assert MODELS[name].summary


def test_a_family_is_listed_under_its_name_and_has_a_model(name, family):
    assert family.name == name
    assert SMALLEST[name].family == name


@pytest.mark.parametrize("name", official_of(MODELS))
def test_an_official_checkpoint_has_an_address_of_its_own(name):
    official = official_of(MODELS)[name]

    assert re.fullmatch("[0-9a-f]{64}", official.sha256)
    assert re.fullmatch(rf"https://.*/{re.escape(official.filename)}", official.url)
    others = [each.filename for each in official_of(MODELS).values()]
    assert others.count(official.filename) == 1


# Building


def test_a_seed_gives_the_same_weights_again(name, family):
    if not family.loads_weights:
        pytest.skip("its weights are its own")
    first, again, other = (built(name, seed=seed).state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_model_loads_the_weights_that_it_saved(name, family, tmp_path):
    if not family.loads_weights:
        pytest.skip("its weights are its own")
    model = built(name, seed=1)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    loaded = built(name, checkpoint=tmp_path / "weights.pth").state_dict()

    assert all(torch.equal(weight, loaded[key]) for key, weight in model.state_dict().items())


def test_a_model_on_the_meta_device_has_the_shapes_and_no_values(name, on_meta):
    true = built(name).state_dict()
    shapes = {key: weight.shape for key, weight in on_meta.state_dict().items()}

    assert {weight.device.type for weight in on_meta.state_dict().values()} == {"meta"}
    assert shapes == {key: weight.shape for key, weight in true.items()}


LATE = """
import sys
import numpy as np, torch
from sam.families import FAMILIES, MODELS
from sam.family import BuildOptions

family = FAMILIES[sys.argv[1]]
model = next(each for each in MODELS.values() if each.family == family.name)
family.preload()
before = {name for name in sys.modules if name.startswith("sam.")}
size = 2 * (family.image_multiple or 32)
options = BuildOptions(image_size=size, attention=family.reference_attention)
built = family.build(model, options).model
image = np.zeros((size, size, 3), np.uint8)
inputs = family.preprocessor(size, torch.device("cpu"))(family.resize(image, size))
family.encoder(built)(inputs[None])
if family.mask_generator is not None:
    settings = {"points_per_side": 1, "images_per_batch": 1}
    family.mask_generator.run(built, [image], settings, lambda stage: None)
print(sorted({name for name in sys.modules if name.startswith("sam.")} - before))
"""


def test_after_loading_all_beforehand_a_family_imports_none_of_its_files_late(name):
    folder = Path(sam.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", LATE, name], cwd=folder, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


# From pixels to an embedding


def test_an_image_becomes_the_encoders_input_and_an_embedding(name, family):
    size = size_of(family)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    resized = family.resize(pixels, size)
    image = family.preprocessor(size, torch.device("cpu"))(resized)
    encoder = family.encoder(built(name))
    with torch.inference_mode():
        embedding = family.embed(encoder(image[None]))

    assert (resized.dtype, len(resized)) == (torch.uint8, 3)
    assert (image.dtype, tuple(image.shape)) == (torch.float32, (3, size, size))
    if family.embedding_shape is not None:
        config = SMALLEST[name].config
        assert tuple(embedding.shape) == family.embedding_shape(config, 1, size)


# Work and names


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_work_that_a_family_knows_is_what_torch_counts_and_is_told_at_once(model):
    family = FAMILIES[model.family]
    if family.work is None:
        pytest.skip("it is counted")
    size, attention = size_of(family), family.reference_attention
    began = time.process_time()
    works = family.work(model.config, size, attention, Formats())
    assert time.process_time() - began < 0.1
    options = BuildOptions(image_size=size, attention=attention, is_meta=True)
    encoder = family.encoder(family.build(model, options).model)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.empty(1, 3, size, size, device="meta"))

    assert works[""].flops == counter.get_total_flops()
    assert set(works) - {""} <= {each for each, _ in encoder.named_modules()}


def test_every_pattern_matches_a_weight_of_the_model(family, on_meta):
    names = [each for each, _ in (*on_meta.named_parameters(), *on_meta.named_buffers())]
    patterns = (*family.keep_float32, *family.keep_float32_in_fp16)

    assert [each for each in patterns if not any(re.search(each, n) for n in names)] == []


def test_layers_of_eight_bits_are_linear_layers_of_the_encoder(family, on_meta):
    linears = [
        each
        for each, module in family.encoder(on_meta).named_modules()
        if isinstance(module, nn.Linear)
    ]
    ends = {end for layers in family.eight_bit_layers.values() for end in layers}

    assert set(family.eight_bit_layers) <= set(EIGHT_BITS)
    assert [end for end in ends if not any(each.endswith(end) for each in linears)] == []


def test_blocks_have_the_names_that_the_family_says(family, on_meta):
    if family.block_names is None:
        pytest.skip("they are named as usual")
    names = [each for each, _ in family.encoder(on_meta).named_modules()]

    assert any(re.fullmatch(family.block_names, each) for each in names)


# Attention and pipelines


def test_the_reference_attention_runs_everywhere(family):
    assert family.knows_attention(family.reference_attention)
    for device, dtype in (("cpu", "float32"), ("cuda", "bfloat16"), ("cpu", "float64")):
        assert family.why_no_attention(family.reference_attention, device, dtype) is None


def test_a_variant_becomes_one_that_the_family_knows(family):
    for variant in family.attention:
        assert family.knows_attention(family.concrete_attention(variant, "cpu", "float32"))


def test_an_unknown_attention_is_refused_by_the_family_with_those_it_has(family):
    reason = family.why_no_attention("sparkling", "cpu", "float32")

    assert "'sparkling'" in reason
    assert all(variant in reason for variant in family.attention)


@pytest.mark.parametrize(
    ("name", "is_known"),
    [("sdpa", True), ("fold+tiled", True), ("fold+x", False), ("a+b+c", False), (OWN, False)],
)
def test_sam_1_knows_its_variants_and_two_joined(name, is_known):
    assert FAMILIES["sam1"].knows_attention(name) == is_known


def test_a_pipeline_names_its_stages(family):
    for pipeline in filter(None, (family.prompts, family.mask_generator)):
        assert len(set(pipeline.stages)) == len(pipeline.stages) > 0


def test_a_model_is_hashable_so_that_its_work_can_be_kept():
    assert len({hash(model) for model in MODELS.values()}) == len(MODELS)
    assert hash(Model("a", "b", None, "")) == hash(Model("a", "b", None, ""))
