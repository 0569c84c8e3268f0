"""SAM as ONNX: the image encoder with a dynamic batch, and what follows it in upstream's form.

Shapes: B images, K points, G tokens along an edge.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..files.masks import MissingExtraError
from .image_encoder import ImageEncoderViT
from .model import Sam
from .prompt_encoder import NOT_A_POINT

OPSETS = range(18, 24)  # those that torch's exporter writes itself; its conversions fail
OPSET = OPSETS[0]
STABILITY_OFFSET = 1.0  # logits, as upstream's export has it
MANY_POINTS = 2.5  # from here on the single mask is the better one
FIRST_OUTPUTS = ("masks", "iou_predictions", "low_res_masks")
EXTRA_OUTPUTS = ("masks", "iou_predictions", "stability_scores", "areas", "low_res_masks")


class OnnxMaskPredictor(nn.Module):
    """Prompt encoder, mask decoder and postprocessing, with upstream's inputs and outputs.

    Args:
        model: Any image size.
        return_single_mask: The best mask alone; else all four.
        use_stability_score: As the quality, instead of the predicted IoU.
        return_extra_metrics: Stability and area of each mask too.
    """

    def __init__(
        self,
        model: Sam,
        return_single_mask: bool,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.return_extra_metrics = return_extra_metrics

    def output_names(self) -> tuple[str, ...]:
        return EXTRA_OUTPUTS if self.return_extra_metrics else FIRST_OUTPUTS

    def example_inputs(self) -> dict[str, Tensor]:
        """Inputs by name, of the shapes that the exported model takes."""
        embeddings = self.model.prompt_encoder.get_dense_pe()
        mask_size = self.model.prompt_encoder.mask_input_size
        side = self.model.image_encoder.image_size
        return {
            "image_embeddings": torch.randn_like(embeddings),
            "point_coords": torch.rand(1, 5, 2) * side,
            "point_labels": torch.tensor([[1.0, 0.0, 2.0, 3.0, -1.0]]),
            "mask_input": torch.randn(1, 1, *mask_size),
            "has_mask_input": torch.tensor([1.0]),
            "orig_im_size": torch.tensor([side // 2, side // 3], dtype=torch.float32),
        }

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """Predict masks for one prompt on one image.

        Args:
            image_embeddings: (1, 256, G, G).
            point_coords: (1, K, 2) as (x, y) in input pixels; boxes are two points.
            point_labels: (1, K): 1 foreground, 0 background, 2 and 3 a box's corners, -1 none.
            mask_input: (1, 1, 4 G, 4 G), of no effect where has_mask_input is 0.
            has_mask_input: (1,), 0 or 1.
            orig_im_size: (2,), height and width of the image.

        Returns:
            The tensors that output_names() names.
        """
        encoder = self.model.prompt_encoder
        sparse = self.embed_points(point_coords, point_labels)
        no_mask = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = has_mask_input * encoder.mask_downscaling(mask_input)
        dense = dense + (1 - has_mask_input) * no_mask
        logits, scores = self.model.mask_decoder.predict_masks(
            image_embeddings, encoder.get_dense_pe(), sparse, dense
        )
        if self.use_stability_score:
            scores = stability(logits, self.model.mask_threshold)
        if self.return_single_mask:
            # With few points the best of the three for ambiguous prompts, else the single one.
            only_single = torch.tensor([[1000.0, 0.0, 0.0, 0.0]], device=scores.device)
            best = (scores + (point_coords.shape[1] - MANY_POINTS) * only_single).argmax(dim=1)
            logits, scores = logits[:, best], scores[:, best]
        masks = self.upscale(logits, orig_im_size)
        if not self.return_extra_metrics:
            return masks, scores, logits
        threshold = self.model.mask_threshold
        areas = (masks > threshold).sum(dim=(-1, -2))
        return masks, scores, stability(masks, threshold), areas, logits

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """As the prompt encoder does, without control flow, and box corners as points."""
        encoder = self.model.prompt_encoder
        labels = labels.unsqueeze(-1)
        encoded = encoder.pe_layer.encode_pixels(coords + 0.5, encoder.image_size)
        encoded = encoded * (labels != NOT_A_POINT)
        encoded = encoded + (labels == NOT_A_POINT) * encoder.not_a_point_embed.weight
        for label in range(len(encoder.point_embeddings)):
            encoded = encoded + (labels == label) * encoder.corner_or_point(label)
        return encoded

    def upscale(self, logits: Tensor, original_size: Tensor) -> Tensor:
        """(1, masks, 4 G, 4 G) to the size that the tensor holds."""
        side = self.model.image_encoder.image_size
        logits = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        original_size = original_size.to(torch.float32)
        resized = torch.floor(original_size * (side / original_size.max()) + 0.5)
        height, width = (known_size(length, side) for length in resized)
        logits = logits[..., :height, :width]
        full = [known_size(length, MAX_SIDE) for length in original_size]
        return F.interpolate(logits, (full[0], full[1]), mode="bilinear", align_corners=False)


MAX_SIDE = 65_536  # pixels of an original image


def known_size(length: Tensor, most: int) -> int:
    """A tensor's value as a size that the exporter may rely on being possible."""
    size = int(length.to(torch.int64).item())
    torch._check(size >= 1)
    torch._check(size <= most)
    return size


def stability(logits: Tensor, threshold: float) -> Tensor:
    """As sam.files.masks.stability_scores, (1, masks, H, W) to (1, masks); ONNX sums no int16."""
    inner, outer = (
        (logits > level).sum(dim=(-1, -2))
        for level in (threshold + STABILITY_OFFSET, threshold - STABILITY_OFFSET)
    )
    return inner / outer


def export_encoder(encoder: ImageEncoderViT, path: str | Path, opset: int = OPSET) -> None:
    """Write the image encoder: "images" (B, 3, S, S) to "image_embeddings" (B, 256, G, G).

    Args:
        encoder: In float32.
        path: The file; the weights go to one beside it, whose name has .data behind it.
        opset: ONNX's operator set, of OPSETS.
    """
    side = encoder.image_size
    inputs = {"images": torch.randn(2, 3, side, side)}
    shapes = ({0: torch.export.Dim("batch")},)
    export(encoder, inputs, ("image_embeddings",), shapes, Path(path), opset)


def export_mask_predictor(
    predictor: OnnxMaskPredictor,
    path: str | Path,
    opset: int = OPSET,
    gelu_approximate: bool = False,
) -> None:
    """Write what follows the encoder, for any number of points.

    Args:
        predictor: With its options.
        path: The file; the weights go to one beside it, whose name has .data behind it.
        opset: ONNX's operator set, of OPSETS.
        gelu_approximate: Replace exact GELU by its tanh form, for runtimes that lack erf.
    """
    points = torch.export.Dim("num_points", min=1, max=1024)
    shapes: tuple[dict[int, Any], ...] = ({}, {1: points}, {1: points}, {}, {}, {})
    inputs, outputs = predictor.example_inputs(), predictor.output_names()
    with approximate_gelu(predictor) if gelu_approximate else nullcontext():
        export(predictor, inputs, outputs, shapes, Path(path), opset)


@contextmanager
def approximate_gelu(module: nn.Module) -> Iterator[None]:
    """Let a module's GELUs be of the tanh form, until the end."""
    gelus = [each for each in module.modules() if isinstance(each, nn.GELU)]
    forms = [gelu.approximate for gelu in gelus]
    try:
        for gelu in gelus:
            gelu.approximate = "tanh"
        yield
    finally:
        for gelu, form in zip(gelus, forms, strict=True):
            gelu.approximate = form


def export(
    module: nn.Module,
    inputs: dict[str, Tensor],
    output_names: tuple[str, ...],
    dynamic_shapes: tuple[Any, ...],
    path: Path,
    opset: int,
) -> None:
    """Export and check a module; only a whole and valid model takes its place at the path."""
    onnx = import_onnx()
    if opset not in OPSETS:
        raise ValueError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset}.")
    with (
        torch.no_grad(),
        warnings.catch_warnings(action="ignore"),  # the exporter's own, about its dependencies
        TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder,
    ):
        # Strict from the start: the exporter would try the other way first, which fails on the
        # sizes that masks are scaled up to, and print the whole graph.
        program = torch.export.export(
            module.eval(), tuple(inputs.values()), dynamic_shapes=dynamic_shapes, strict=True
        )
        torch.onnx.export(
            program,
            f=str(Path(folder, path.name)),
            dynamic_shapes=dynamic_shapes,  # for the names of the dimensions
            input_names=list(inputs),
            output_names=list(output_names),
            opset_version=opset,
            external_data=True,  # a model of over 2 GB can't be one file
            verbose=False,
        )
        onnx.checker.check_model(str(Path(folder, path.name)))
        for written in sorted(Path(folder).iterdir(), reverse=True):  # the weights first
            written.replace(path.with_name(written.name))


def quantize(path: str | Path, output: str | Path) -> None:
    """Write a copy, in one file, whose weights are 8-bit integers, quantised dynamically."""
    onnx, quantization = import_onnx(), import_quantization()
    model = onnx.load(str(path))
    # The shapes that the exporter noted are taken to be of tensors that quantising splits.
    del model.graph.value_info[:]
    output = Path(output)
    was_disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends a preparation that fails on weights apart
    try:
        with TemporaryDirectory(dir=output.parent, prefix=".onnx-") as folder:
            whole = Path(folder, output.name)
            quantization.quantize_dynamic(
                model, str(whole), weight_type=quantization.QuantType.QUInt8
            )
            whole.replace(output)
    finally:
        logging.disable(was_disabled)


HOW_TO_GET = "ONNX export needs more packages: pip install 'sam-encoder-bench[onnx]'"


def import_onnx() -> Any:
    """The module onnx; MissingExtraError says how to get it and what else is needed."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise MissingExtraError(HOW_TO_GET) from error
    return onnx


def import_quantization() -> Any:
    """The module onnxruntime.quantization; MissingExtraError says how to get it."""
    try:
        from onnxruntime import quantization
    except ImportError as error:
        raise MissingExtraError(HOW_TO_GET) from error
    return quantization
