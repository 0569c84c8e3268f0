import pytest
import torch
import torch.nn.functional as F

import sam
from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.sam1.build import allocate_sam, fill_random
from sam.sam1.registry import build_sam_model


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("name", MODELS)
def test_an_allocated_model_is_the_one_of_its_row(name):
    config = MODELS[name].config

    blocks = allocate_sam(config, device="meta").image_encoder.blocks

    assert len(blocks) == config.depth
    assert {block.attn.heads for block in blocks} == {config.num_heads}
    sides = [block.attn.window_side for block in blocks]
    assert tuple(index for index, side in enumerate(sides) if side == 64) == config.global_blocks


def test_a_model_is_built_in_float32_for_evaluation_on_the_cpu():
    model = build_sam_model("tiny", image_size=128)

    assert not model.training
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float32, "cpu")}


def test_the_same_seed_gives_the_same_weights():
    assert same_weights(*(build_sam_model("tiny", image_size=128, seed=7) for _ in range(2)))


def test_random_weights_are_the_same_on_every_machine():
    positions = build_sam_model("tiny", image_size=128).state_dict()["image_encoder.pos_embed"]

    expected = torch.tensor([-0.56291991, -0.57618010, -0.12528929])
    torch.testing.assert_close(positions.flatten()[:3], expected, rtol=1e-4, atol=0)


def test_another_seed_changes_every_weight():
    zero, one = (build_sam_model("tiny", image_size=128, seed=seed).state_dict() for seed in (0, 1))

    assert not any(torch.equal(tensor, one[name]) for name, tensor in zero.items())


def test_the_largest_seed_is_unlike_the_smallest():
    first, last = (build_sam_model("tiny", image_size=128, seed=seed) for seed in (0, 65_535))

    assert not same_weights(first, last)


@pytest.mark.parametrize("seed", [-1, 65_536])
def test_a_seed_that_would_repeat_another_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed must be from 0 to 65535, got {seed}"):
        build_sam_model("tiny", image_size=128, seed=seed)


def test_weights_do_not_depend_on_torchs_global_seed():
    torch.manual_seed(1)
    one = build_sam_model("tiny", image_size=128)
    torch.manual_seed(2)

    assert same_weights(one, build_sam_model("tiny", image_size=128))


def test_building_leaves_torchs_global_random_state_alone():
    before = torch.get_rng_state()

    build_sam_model("tiny", image_size=128)

    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_tensors_of_a_model_share_their_random_values():
    state = build_sam_model("tiny", image_size=128).state_dict()

    first_values = [float(tensor.flatten()[0]) for tensor in state.values()]
    assert len(set(first_values)) == len(first_values)


def test_random_weights_are_large_where_an_error_would_hide():
    state = build_sam_model("tiny", image_size=128).state_dict()

    for name, tensor in state.items():
        if "rel_pos" in name or name.endswith("qkv.bias"):
            assert tensor.std() > 0.05, name


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_attention_is_built_with_the_same_weights(attention):
    reference = build_sam_model("tiny", image_size=128)

    assert same_weights(reference, build_sam_model("tiny", image_size=128, attention=attention))


def test_an_unknown_model_is_refused_with_those_known():
    with pytest.raises(ValueError, match=r"Unknown model 'vit_x'\. Known: tiny, vit_b, vit_l"):
        build_sam_model("vit_x")


# From as many tokens along an edge as the checkpoint's to fewer, to more, and to 14, where global
# tables are as long as those of windows.
@pytest.mark.parametrize(("saved_at", "built_at"), [(128, 96), (128, 256), (128, 224), (224, 128)])
@pytest.mark.parametrize("attention", ["reference", "sdpa"])
def test_a_checkpoint_of_another_image_size_works_as_in_upstream(
    attention, saved_at, built_at, build_pair, build_upstream, distance, tmp_path
):
    state = build_pair(image_size=saved_at).ours.state_dict()
    torch.save(state, tmp_path / "weights.pth")
    # Upstream stretches relative positions in its forward; absolute ones are the user's task.
    theirs = build_upstream(MODELS["tiny"].config, built_at)
    positions = state["image_encoder.pos_embed"].permute(0, 3, 1, 2)
    resized = F.interpolate(positions, (built_at // 16,) * 2, mode="bilinear")
    for name, weight in theirs.named_parameters():
        weight.data = state[name]
    theirs.image_encoder.pos_embed.data = resized.permute(0, 2, 3, 1)
    images = torch.randn(1, 3, built_at, built_at, generator=torch.Generator().manual_seed(0))

    ours = build_sam_model(
        "tiny", image_size=built_at, attention=attention, checkpoint=tmp_path / "weights.pth"
    )

    with torch.no_grad():
        assert distance(ours.image_encoder(images), theirs.image_encoder(images)) < 1e-5


def test_a_checkpoint_of_the_same_image_size_is_taken_to_the_bit(build_pair, tmp_path):
    saved = build_pair(image_size=128).ours
    torch.save(saved.state_dict(), tmp_path / "weights.pth")

    loaded = build_sam_model("tiny", image_size=128, checkpoint=tmp_path / "weights.pth")

    assert same_weights(saved, loaded)


def test_any_module_can_be_filled():
    layer = torch.nn.Linear(3, 3)
    before = layer.weight.clone()

    fill_random(layer, seed=0)

    assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize("name", ["default", "vit_h", "vit_l", "vit_b"])
def test_the_registry_builds_the_model_of_each_of_upstreams_names(name, monkeypatch):
    built = []
    monkeypatch.setattr(
        "sam.sam1.registry.build_sam_model",
        lambda model, checkpoint: built.append((model, checkpoint)),
    )

    sam.sam_model_registry[name](checkpoint="weights.pth")

    assert built == [("vit_h" if name == "default" else name, "weights.pth")]


def test_build_sam_is_vit_h_as_in_upstream():
    assert sam.build_sam is sam.build_sam_vit_h
