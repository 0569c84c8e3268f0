import pytest
import torch
from segment_anything import sam_model_registry as upstream_registry
from torch.utils.flop_counter import FlopCounterMode

from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.sam1.build import allocate_sam, fill_random
from sam.sam1.configs import ModelConfig

OFFICIAL = ("vit_b", "vit_l", "vit_h")
TENSORS = {"vit_b": 314, "vit_l": 482, "vit_h": 594}
ENCODER_PARAMETERS = {"vit_b": 89_670_912, "vit_l": 308_278_272, "vit_h": 637_026_048}
PARAMETERS = {"vit_b": 93_735_472, "vit_l": 312_342_832, "vit_h": 641_090_608}
# GMAC per image of 1024 x 1024 pixels, by what padded tokens go through.
GMAC = {
    "tokens": {"vit_b": 486.04, "vit_l": 1492.84, "vit_h": 2980.54},
    "bias": {"vit_b": 470.86, "vit_l": 1425.40, "vit_h": 2833.01},
}

HEAD_DIMS = {
    32: ModelConfig(64, 2, 2, (1,)),
    64: ModelConfig(128, 2, 2, (1,)),
    80: ModelConfig(160, 2, 2, (1,)),
}
# Tokens along an edge: 6 and 10 are less than a window, 14 is one, 16 is two with padding.
IMAGE_SIZES = (96, 160, 224, 256)


def noise(batch_size, image_size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch_size, 3, image_size, image_size, generator=generator, dtype=dtype)


def count_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(encoder):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.empty(1, 3, 1024, 1024, device="meta"))
    return counter.get_total_flops()


def upstream_on_meta(name):
    with torch.device("meta"):
        return upstream_registry[name]()


@pytest.mark.parametrize("name", MODELS)
def test_the_tensors_are_upstreams_in_name_shape_and_order(name, build_upstream):
    ours = allocate_sam(MODELS[name].config, device="meta").state_dict()

    with torch.device("meta"):
        theirs = build_upstream(MODELS[name].config, 1024).state_dict()

    assert [(key, t.shape) for key, t in ours.items()] == [(k, t.shape) for k, t in theirs.items()]


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_rows_of_the_table_build_what_upstreams_registry_builds(name):
    ours = allocate_sam(MODELS[name].config, device="meta")

    theirs = upstream_on_meta(name)

    assert [t.shape for t in ours.parameters()] == [t.shape for t in theirs.parameters()]


@pytest.mark.parametrize("name", OFFICIAL)
def test_models_have_the_published_number_of_tensors(name):
    assert len(allocate_sam(MODELS[name].config, device="meta").state_dict()) == TENSORS[name]


@pytest.mark.parametrize("name", OFFICIAL)
def test_models_have_the_published_number_of_parameters(name):
    model = allocate_sam(MODELS[name].config, device="meta")

    assert count_parameters(model.image_encoder) == ENCODER_PARAMETERS[name]
    assert count_parameters(model) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_weights_load_strictly_in_both_directions(name, build_upstream):
    ours = allocate_sam(MODELS[name].config, device="meta")
    with torch.device("meta"):
        theirs = build_upstream(MODELS[name].config, 1024)

    assert not any(ours.load_state_dict(theirs.state_dict(), strict=True, assign=True))
    assert not any(theirs.load_state_dict(ours.state_dict(), strict=True, assign=True))


@pytest.mark.parametrize(
    ("head_dim", "image_size"), [*((64, size) for size in IMAGE_SIZES), (32, 256), (80, 256)]
)
@pytest.mark.parametrize("attention", ATTENTION)
def test_embeddings_equal_upstreams_in_float64(
    attention, head_dim, image_size, build_encoders, distance
):
    ours, theirs = build_encoders(HEAD_DIMS[head_dim], image_size, attention, torch.float64)
    images = noise(1, image_size, torch.float64)

    with torch.no_grad():
        assert distance(ours(images), theirs(images)) < 1e-12


@pytest.mark.parametrize(("head_dim", "image_size"), [(32, 96), (80, 160), (32, 224), (64, 256)])
@pytest.mark.parametrize("attention", ATTENTION)
def test_embeddings_equal_upstreams_in_float32(
    attention, head_dim, image_size, build_encoders, distance
):
    ours, theirs = build_encoders(HEAD_DIMS[head_dim], image_size, attention)
    images = noise(1, image_size)

    with torch.no_grad():
        assert distance(ours(images), theirs(images)) < 1e-5


@pytest.mark.parametrize("batch_size", [2, 3])
@pytest.mark.parametrize("attention", ATTENTION)
def test_embeddings_of_a_batch_equal_upstreams(attention, batch_size, build_encoders, distance):
    ours, theirs = build_encoders(HEAD_DIMS[32], 256, attention)
    images = noise(batch_size, 256)

    with torch.no_grad():
        assert distance(ours(images), theirs(images)) < 1e-5


@pytest.mark.parametrize("attention", ATTENTION)
def test_an_image_gets_the_same_embedding_alone_and_in_a_batch(attention, build_encoders, distance):
    encoder = build_encoders(HEAD_DIMS[32], 256, attention).ours
    images = noise(2, 256)

    with torch.no_grad():
        assert distance(encoder(images)[1:], encoder(images[1:])) < 1e-5


@pytest.mark.parametrize(
    "layout",
    [
        lambda images: images.transpose(2, 3),
        lambda images: images.contiguous(memory_format=torch.channels_last),
        lambda images: images[:1].expand(2, -1, -1, -1),
        lambda images: torch.cat([images, images], dim=3)[..., ::2],
    ],
    ids=["transposed", "channels_last", "expanded", "strided"],
)
@pytest.mark.parametrize("attention", ["reference", "sdpa"])  # patches by convolution, and product
def test_images_need_not_be_contiguous(attention, layout, build_encoders, distance):
    ours, theirs = build_encoders(MODELS["tiny"].config, 256, attention)
    images = layout(noise(2, 256))
    assert not images.is_contiguous()

    with torch.no_grad():
        assert distance(ours(images), theirs(images.contiguous())) < 1e-5


@pytest.fixture(scope="module")
def vit_b(build_encoders):
    """Upstream's weights and embeddings."""
    theirs = build_encoders(MODELS["vit_b"].config, 256, "reference").upstream
    with torch.no_grad():
        return theirs.state_dict(), theirs(noise(1, 256))


# Triton's interpreter takes two minutes.
@pytest.mark.parametrize("attention", sorted(set(ATTENTION) - {"triton"}))
def test_vit_b_gives_upstreams_embeddings(attention, vit_b, distance):
    ours = allocate_sam(MODELS["vit_b"].config, 256, attention, device="meta").image_encoder
    weights, embeddings = vit_b
    ours.load_state_dict(weights, assign=True)

    with torch.no_grad():
        assert distance(ours(noise(1, 256)), embeddings) < 1e-5


@pytest.mark.parametrize("attention", sorted(set(ATTENTION) - {"flex", "triton"}))
def test_gradients_equal_upstreams(attention, build_encoders, distance):
    ours, theirs = build_encoders(MODELS["tiny"].config, 256, attention, torch.float64)
    images = noise(1, 256, torch.float64)

    for encoder in (ours, theirs):
        encoder(images).square().sum().backward()

    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert distance(parameter.grad, gradients[name]) < 1e-10, name


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("attention", sorted(set(ATTENTION) - {"fold"}))
def test_the_forward_costs_the_published_flops(attention, name):
    flops = count_flops(allocate_sam(MODELS[name].config, 1024, attention, "meta").image_encoder)

    assert round(flops / 2e9, 2) == GMAC[ATTENTION[attention].padding][name]


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_reference_costs_upstreams_flops_to_the_last_one(name):
    ours = count_flops(allocate_sam(MODELS[name].config, 1024, "reference", "meta").image_encoder)

    assert ours == count_flops(upstream_on_meta(name).image_encoder)


@pytest.mark.parametrize("attention", ATTENTION)
def test_a_bf16_encoder_takes_float32_images(attention, build_encoders, distance, interpreted_bf16):
    ours, theirs = build_encoders(HEAD_DIMS[32], 96, attention)
    images = noise(1, 96)

    with torch.no_grad():
        expected = theirs(images)
        embeddings = ours.to(torch.bfloat16)(images)

    assert embeddings.dtype == torch.bfloat16
    assert distance(embeddings.float(), expected) < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_float32_pos_embed_keeps_the_residual_stream_in_float32(attention, dtype):
    encoder = allocate_sam(HEAD_DIMS[32], 96, attention).image_encoder
    fill_random(encoder, seed=0)
    encoder.to(dtype).pos_embed.data = encoder.pos_embed.data.float()
    kinds = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda block, inputs, output: kinds.append(output.dtype))

    with torch.no_grad():
        embeddings = encoder(noise(1, 96))

    assert kinds == [torch.float32] * len(encoder.blocks)
    assert embeddings.dtype == dtype


@pytest.mark.parametrize("image_size", [-16, 0, 8, 100, 1023])
def test_an_image_size_off_the_patch_grid_is_refused(image_size):
    with pytest.raises(ValueError, match=rf"multiple of the patch size 16, got {image_size}\."):
        allocate_sam(MODELS["tiny"].config, image_size)


def test_an_unknown_attention_is_refused_with_those_known():
    with pytest.raises(ValueError, match=r"Unknown attention 'flash'\. Known: reference, sdpa"):
        allocate_sam(MODELS["tiny"].config, 128, "flash")


def test_random_weights_keep_the_embeddings_near_one():
    encoder = allocate_sam(MODELS["tiny"].config, 256).image_encoder
    fill_random(encoder, seed=0)

    with torch.no_grad():
        spread = float(encoder(noise(1, 256)).std())

    assert 0.5 < spread < 2
