"""Pairs of models with the same weights, ours and upstream's, and how far apart outputs are."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import segment_anything.modeling as upstream
import torch
from segment_anything import automatic_mask_generator
from torch import Tensor, nn
from torchvision.ops import batched_nms

from sam.families import MODELS
from sam.sam1.build import allocate_sam, fill_random
from sam.sam1.configs import ModelConfig
from sam.sam1.image_encoder import ImageEncoderViT
from sam.sam1.model import Sam
from sam.sam1.predictor import SamPredictor


class SamPair(NamedTuple):
    ours: Sam
    upstream: upstream.Sam


class EncoderPair(NamedTuple):
    ours: ImageEncoderViT
    upstream: upstream.ImageEncoderViT


class Precision(NamedTuple):
    dtype: torch.dtype
    tolerance: float  # of relative_distance


@pytest.fixture(
    params=[Precision(torch.float32, 1e-5), Precision(torch.float64, 1e-12)],
    ids=["float32", "float64"],
)
def precision(request: pytest.FixtureRequest) -> Precision:
    return request.param


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For many small operations: on busy cores, threads that wait for each other cost 20 times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def interpreted_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter multiplies the bits of bfloat16 as whole numbers; not here."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder

    multiply = InterpreterBuilder.create_dot

    def widened(builder: InterpreterBuilder, handle: Any) -> Any:
        return builder.create_fp_ext(handle, tl.float32) if handle.dtype is tl.bfloat16 else handle

    def create_dot(builder: InterpreterBuilder, a: Any, b: Any, *more: Any) -> Any:
        return multiply(builder, widened(builder, a), widened(builder, b), *more)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


@pytest.fixture(scope="session")
def distance() -> Callable[[Tensor, Tensor], float]:
    return relative_distance


@pytest.fixture(scope="session")
def build_upstream() -> Callable[..., upstream.Sam]:
    return upstream_sam


@pytest.fixture(scope="session")
def build_pair() -> Callable[..., SamPair]:
    """Cached: a test must leave the pair as it is."""
    return functools.cache(sam_pair)


@pytest.fixture(scope="session")
def build_encoders() -> Callable[..., EncoderPair]:
    return encoder_pair


@pytest.fixture
def upstream_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's prompt encoder computes positions in float32, by name; here that is float64."""
    wider = {**vars(torch), "float": torch.float64, "float32": torch.float64}
    wider["empty"] = partial(torch.empty, dtype=torch.float64)
    module = upstream.prompt_encoder
    monkeypatch.setattr(module, "torch", types.SimpleNamespace(**wider))


@pytest.fixture
def both_in_float64(upstream_in_float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours rounds coordinates to float32, and upstream's NMS takes float32 alone; not here."""

    def in_float64(predictor: SamPredictor, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64)

    def nms_of_float64(boxes: Tensor, scores: Tensor, *args: Tensor, **kwargs: float) -> Tensor:
        return batched_nms(boxes, scores.float(), *args, **kwargs)

    monkeypatch.setattr(SamPredictor, "_tensor", in_float64)
    monkeypatch.setattr(automatic_mask_generator, "batched_nms", nms_of_float64)


def relative_distance(ours: Tensor, theirs: Tensor) -> float:
    """The larger of the relative L2 error and the relative largest error."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if theirs.numel() == 0:
        return 0.0
    error, theirs = ours.detach().double() - theirs.detach().double(), theirs.detach().double()
    return max(float(error.norm() / theirs.norm()), float(error.abs().max() / theirs.abs().max()))


def sam_pair(
    config: ModelConfig = MODELS["tiny"].config,
    image_size: int = 128,
    attention: str = "reference",
    dtype: torch.dtype = torch.float32,
) -> SamPair:
    ours = allocate_sam(config, image_size, attention)
    fill_boldly(ours)
    theirs = upstream_sam(config, image_size)
    theirs.load_state_dict(ours.state_dict())
    return SamPair(ours.to(dtype), theirs.to(dtype))


def encoder_pair(
    config: ModelConfig, image_size: int, attention: str, dtype: torch.dtype = torch.float32
) -> EncoderPair:
    ours = allocate_sam(config, image_size, attention).image_encoder
    fill_boldly(ours)
    with torch.device("meta"):
        theirs = upstream_encoder(config, image_size)
    ours.to(dtype)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    return EncoderPair(ours, theirs.eval())


def fill_boldly(model: nn.Module) -> None:
    """Random weights with large relative positions and qkv biases: an error in them must show."""
    fill_random(model, seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "rel_pos" in name:
                weight *= 2
            if name.endswith("qkv.bias"):
                weight *= 10


def upstream_sam(config: ModelConfig, image_size: int) -> upstream.Sam:
    """As upstream's _build_sam, but at any size."""
    grid = (image_size // 16, image_size // 16)
    return upstream.Sam(
        upstream_encoder(config, image_size),
        upstream.PromptEncoder(256, grid, (image_size, image_size), mask_in_chans=16),
        upstream.MaskDecoder(
            transformer_dim=256,
            transformer=upstream.TwoWayTransformer(
                depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048
            ),
        ),
    ).eval()


def upstream_encoder(config: ModelConfig, image_size: int) -> upstream.ImageEncoderViT:
    return upstream.ImageEncoderViT(
        img_size=image_size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=config.global_blocks,
    )
