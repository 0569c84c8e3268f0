"""Masks for prompts on one image: encode the image once, then ask as often as you like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .model import Sam
from .prompts import Prompts, check_together
from .transforms import ResizeLongestSide

IMAGE_FORMATS = ("RGB", "BGR")


class PreparedImages(NamedTuple):
    """Images ready for the encoder: (I, 3, S, S), and their (H, W) before and after the resize."""

    batch: Tensor
    original_sizes: list[tuple[int, int]]
    input_sizes: list[tuple[int, int]]


class SamPredictor:
    """Holds the embeddings of one or several images and predicts masks for prompts on them.

    Args:
        sam_model: The model; its device is where everything runs.
    """

    def __init__(self, sam_model: Sam) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_encoder.image_size)
        self.reset_image()

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def is_image_set(self) -> bool:
        return self.features is not None

    @property
    def original_size(self) -> tuple[int, int] | None:
        """(H, W) of the first image, or None; upstream's name where there is one image."""
        return self.original_sizes[0] if self.original_sizes else None

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(H, W) of the first image after the resize, or None."""
        return self.input_sizes[0] if self.input_sizes else None

    def reset_image(self) -> None:
        """Forget the images."""
        self.features: Tensor | None = None  # (I, 256, G, G)
        self.original_sizes: list[tuple[int, int]] = []  # (H, W) of each image
        self.input_sizes: list[tuple[int, int]] = []  # (H, W) after the resize

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        """Encode an image.

        Args:
            image: (H, W, 3) uint8.
            image_format: Order of the channels, "RGB" or "BGR".

        Raises:
            ValueError: Where image or image_format is anything else.
        """
        self.set_images([image], image_format)

    @torch.no_grad()
    def set_images(self, images: Sequence[np.ndarray], image_format: str = "RGB") -> None:
        """Encode images of any sizes in one batch; then ask with predict_batch.

        Args:
            images: (H, W, 3) uint8 each.
            image_format: Order of the channels, "RGB" or "BGR".

        Raises:
            ValueError: Where an image or image_format is anything else.
        """
        self.encode(self.prepare(images, image_format))

    @torch.no_grad()
    def prepare(self, images: Sequence[np.ndarray], image_format: str = "RGB") -> PreparedImages:
        """Resize images, copy them to the device, normalise and pad them; as set_images does."""
        if image_format not in IMAGE_FORMATS:
            raise ValueError(f"image_format must be one of {IMAGE_FORMATS}, got '{image_format}'.")
        if not len(images):
            raise ValueError("There must be at least one image, got none.")
        for image in images:
            check_image(image)
        if image_format != self.model.image_format:
            images = [image[..., ::-1] for image in images]
        resized = [
            torch.as_tensor(self.transform.apply_image(image), device=self.device).permute(2, 0, 1)
            for image in images
        ]
        return PreparedImages(
            torch.stack([self.model.preprocess(image.contiguous()) for image in resized]),
            [(image.shape[0], image.shape[1]) for image in images],
            [(image.shape[1], image.shape[2]) for image in resized],
        )

    @torch.no_grad()
    def set_torch_image(
        self, transformed_image: Tensor, original_image_size: tuple[int, int]
    ) -> None:
        """Encode an image that is already resized.

        Args:
            transformed_image: (1, 3, H, W) in 0..255, its longest side the model's image size.
            original_image_size: (H, W) before the resize.

        Raises:
            ValueError: Where the shape is another.
        """
        side = self.model.image_encoder.image_size
        shape = tuple(transformed_image.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != side:
            raise ValueError(
                f"transformed_image must have shape (1, 3, H, W) with its longest side {side}, "
                f"got {shape}: resize it with ResizeLongestSide({side})."
            )
        batch = self.model.preprocess(transformed_image)
        self.encode(PreparedImages(batch, [original_image_size], [(shape[2], shape[3])]))

    @torch.no_grad()
    def encode(self, images: PreparedImages) -> None:
        """Set images that are prepared."""
        self.reset_image()  # its memory goes before the encoder needs some
        self.features = self.model.image_encoder(images.batch)
        self.original_sizes, self.input_sizes = images.original_sizes, images.input_sizes

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the masks of one prompt on the image.

        Args:
            point_coords: (K, 2) as (x, y) in pixels of the original image.
            point_labels: (K,), 1 foreground, 0 background; needed with point_coords.
            box: (4,) as (x0, y0, x1, y1) in pixels of the original image.
            mask_input: (1, 4 G, 4 G), logits of an earlier prediction.
            multimask_output: Three masks, better for an ambiguous prompt such as one click.
            return_logits: Logits instead of a binary mask.

        Returns:
            Masks (masks, H, W) at the original size, predicted IoU (masks,), and low-resolution
            logits (masks, 4 G, 4 G) for mask_input.

        Raises:
            RuntimeError: Before set_image.
            ValueError: Where point_coords come without point_labels.
        """
        original_size = self._only_image()[2]
        check_together(point_coords, point_labels)
        coords = labels = boxes = masks = None
        if point_coords is not None:
            coords = self._tensor(self.transform.apply_coords(point_coords, original_size))[None]
            labels = torch.as_tensor(point_labels, dtype=torch.int, device=self.device)[None]
        if box is not None:
            boxes = self._tensor(self.transform.apply_boxes(np.asarray(box), original_size))
        if mask_input is not None:
            masks = self._tensor(mask_input)[None]
        outputs = self.predict_torch(coords, labels, boxes, masks, multimask_output, return_logits)
        first = [as_numpy(output[0]) for output in outputs]
        return first[0], first[1], first[2]

    @torch.no_grad()
    def predict_batch(
        self,
        prompts: Sequence[Prompts],
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Predict masks for prompts on all images that set_images encoded.

        Images may have different numbers of prompts; those whose prompts have the same form are
        decoded together.

        Args:
            prompts: Of each image, in the images' order.
            multimask_output: Three masks a prompt instead of one.
            return_logits: Logits instead of binary masks.

        Returns:
            For each image: masks (P, masks, H, W), predicted IoU (P, masks), and low-resolution
            logits (P, masks, 4 G, 4 G).

        Raises:
            RuntimeError: Before set_images.
            ValueError: Where there are not as many prompts as images.
        """
        features = self._features()
        if len(prompts) != len(features):
            raise ValueError(
                f"There must be prompts for each of the {len(features)} images, got {len(prompts)}."
            )
        found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for form in dict.fromkeys(each.form() for each in prompts):
            members = [index for index, each in enumerate(prompts) if each.form() == form]
            sizes = [len(prompts[index]) for index in members]
            parts = [self._embed(prompts[index], index) for index in members]
            sparse = torch.cat([sparse for sparse, _ in parts])
            has_masks = prompts[members[0]].mask_inputs is not None
            # Without masks it is the same for all prompts.
            dense = torch.cat([dense if has_masks else dense[:1] for _, dense in parts])
            low_res, iou = self.model.mask_decoder(
                features,
                self.model.prompt_encoder.get_dense_pe(),
                sparse,
                dense if has_masks else dense[:1],
                multimask_output,
                image_of_prompt=torch.tensor(np.repeat(members, sizes), device=self.device),
            )
            for index, logits, quality in zip(
                members, low_res.split(sizes), iou.split(sizes), strict=True
            ):
                sizes_of_image = self.input_sizes[index], self.original_sizes[index]
                masks = self.model.postprocess_masks(logits, *sizes_of_image)
                if not return_logits:
                    masks = masks > self.model.mask_threshold
                found[index] = (as_numpy(masks), as_numpy(quality), as_numpy(logits))
        return [found[index] for index in range(len(prompts))]

    def _embed(self, prompts: Prompts, index: int) -> tuple[Tensor, Tensor]:
        """Sparse and dense embeddings of the prompts on one image."""
        size = self.original_sizes[index]
        points = boxes = masks = None
        if prompts.point_coords is not None:
            coords = self._tensor(self.transform.apply_coords(prompts.point_coords, size))
            labels = torch.as_tensor(prompts.point_labels, dtype=torch.int, device=self.device)
            points = (coords, labels)
        if prompts.boxes is not None:
            boxes = self._tensor(self.transform.apply_boxes(prompts.boxes, size))
        if prompts.mask_inputs is not None:
            masks = self._tensor(prompts.mask_inputs)
        return self.model.prompt_encoder(points, boxes, masks)

    @torch.no_grad()
    def predict_points(self, index: int, coords: np.ndarray) -> tuple[Tensor, Tensor]:
        """Predict three masks at each of P foreground points of one image, small and as logits.

        Args:
            index: Of the image among those set.
            coords: (P, 2) as (x, y) in pixels of the image.

        Returns:
            Logits (P, 3, 4 G, 4 G) and predicted IoU (P, 3), on the model's device.
        """
        return self.model.mask_decoder(*self._embed_points(index, coords), True)

    @torch.no_grad()
    def predict_points_above(
        self, index: int, coords: np.ndarray, least_iou: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As predict_points, only the M masks whose predicted IoU is above `least_iou`.

        Returns:
            Logits (M, 4 G, 4 G), predicted IoU (M,) and the point of each (M,), an index.
        """
        embeddings = self._embed_points(index, coords)
        return self.model.mask_decoder.predict_masks_above(*embeddings, least_iou)

    def _embed_points(
        self, index: int, coords: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mask decoder's first arguments for (P, 2) foreground points of one image."""
        labels = np.ones((len(coords), 1), dtype=np.int32)
        sparse, dense = self._embed(Prompts(coords[:, None], labels), index)
        features = self._features()[index : index + 1]
        return features, self.model.prompt_encoder.get_dense_pe(), sparse, dense[:1]

    def upscale(self, low_res_logits: Tensor, original_size: tuple[int, int]) -> Tensor:
        """(P, masks, 4 G, 4 G) to (P, masks, H, W) logits of an image of that size."""
        input_size = self.transform.get_preprocess_shape(
            *original_size, self.transform.target_length
        )
        return self.model.postprocess_masks(low_res_logits, input_size, original_size)

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the masks of P prompts at once.

        Args:
            point_coords: (P, K, 2) in pixels of the resized image (transform.apply_coords_torch).
            point_labels: (P, K).
            boxes: (P, 4) in pixels of the resized image.
            mask_input: (P, 1, 4 G, 4 G).
            multimask_output: Three masks a prompt instead of one.
            return_logits: Logits instead of binary masks.

        Returns:
            Masks (P, masks, H, W), predicted IoU (P, masks), logits (P, masks, 4 G, 4 G).

        Raises:
            RuntimeError: Before set_image.
            ValueError: Where point_coords come without point_labels.
        """
        features, input_size, original_size = self._only_image()
        check_together(point_coords, point_labels)
        points = None
        if point_coords is not None and point_labels is not None:
            points = (point_coords, point_labels)
        sparse, dense = self.model.prompt_encoder(points, boxes, mask_input)
        if mask_input is None:
            dense = dense[:1]  # the same for all prompts
        low_res_logits, iou_predictions = self.model.mask_decoder(
            features, self.model.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output
        )
        masks = self.model.postprocess_masks(low_res_logits, input_size, original_size)
        if not return_logits:
            masks = masks > self.model.mask_threshold
        return masks, iou_predictions, low_res_logits

    def get_image_embedding(self) -> Tensor:
        """The image embedding, (1, 256, G, G); RuntimeError before set_image."""
        return self._features()

    def _features(self) -> Tensor:
        if self.features is None:
            raise RuntimeError("No image is set: call set_image(image) first.")
        return self.features

    def _only_image(self) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
        """Embedding, resized and original (H, W) of the image, where there is just one."""
        features = self._features()
        if len(features) > 1:
            raise RuntimeError(f"{len(features)} images are set: ask with predict_batch.")
        return features, self.input_sizes[0], self.original_sizes[0]

    def _tensor(self, values: np.ndarray) -> Tensor:
        """float32 on the model's device; float64 breaks MPS."""
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def check_image(image: np.ndarray) -> None:
    is_array = isinstance(image, np.ndarray)
    if not is_array or image.dtype != np.uint8 or image.shape[2:] != (3,) or 0 in image.shape:
        got = f"shape {image.shape} and dtype {image.dtype}" if is_array else type(image).__name__
        raise ValueError(
            f"image must be an array of shape (height, width, 3) and dtype uint8, got {got}: "
            "convert it with np.asarray(PIL.Image.open(path).convert('RGB'))."
        )


def as_numpy(tensor: Tensor) -> np.ndarray:
    """On the host; numpy knows no bf16, so narrow floats come as float32."""
    if tensor.is_floating_point():
        tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return tensor.cpu().numpy()
