import pytest
import torch
from segment_anything.modeling.common import LayerNorm2d as UpstreamLayerNorm2d

from sam.sam1.build import fill_random
from sam.sam1.layers import MLP, LayerNorm, LayerNorm2d, MLPBlock


def test_layer_norm_2d_equals_upstreams(precision, distance):
    ours, theirs = LayerNorm2d(24), UpstreamLayerNorm2d(24)
    fill_random(ours, seed=0)
    theirs.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(0)
    feature_map = 3 + torch.randn(2, 24, 5, 7, generator=generator, dtype=precision.dtype)

    normalised = ours.to(precision.dtype)(feature_map)

    assert distance(normalised, theirs.to(precision.dtype)(feature_map)) < precision.tolerance


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [(LayerNorm(8), (2, 8)), (LayerNorm2d(8), (2, 8, 3, 3)), (MLPBlock(8, 16), (2, 8))],
    ids=["LayerNorm", "LayerNorm2d", "MLPBlock"],
)
def test_a_layer_answers_in_its_own_type_whatever_it_reads(layer, shape, dtype):
    assert layer(torch.ones(shape, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mlp_has_relu_between_its_layers_and_none_at_the_end(depth):
    mlp = MLP(4, 8, 2, depth)
    fill_random(mlp, seed=0)
    tokens = torch.linspace(-2, 2, 12).view(3, 4)

    expected = tokens
    for index, layer in enumerate(mlp.layers):
        expected = layer(expected.relu() if index else expected)

    assert torch.equal(mlp(tokens), expected)
