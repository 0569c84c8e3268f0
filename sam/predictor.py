"""Masks for prompts on one image: encode the image once, then ask as often as you like."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .model import Sam
from .transforms import ResizeLongestSide

IMAGE_FORMATS = ("RGB", "BGR")


class SamPredictor:
    """Holds one image's embedding and predicts masks for prompts on it.

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

    def reset_image(self) -> None:
        """Forget the image."""
        self.is_image_set = False
        self.features: Tensor | None = None
        self.original_size: tuple[int, int] | None = None
        self.input_size: tuple[int, int] | None = None

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        """Encode an image.

        Args:
            image: (H, W, 3) uint8.
            image_format: Order of the channels, "RGB" or "BGR".

        Raises:
            ValueError: Where image or image_format is anything else.
        """
        if image_format not in IMAGE_FORMATS:
            raise ValueError(f"image_format must be one of {IMAGE_FORMATS}, got '{image_format}'.")
        is_array = isinstance(image, np.ndarray)
        if not is_array or image.dtype != np.uint8 or image.shape[2:] != (3,) or 0 in image.shape:
            got = (
                f"shape {image.shape} and dtype {image.dtype}" if is_array else type(image).__name__
            )
            raise ValueError(
                f"image must be an array of shape (height, width, 3) and dtype uint8, got {got}: "
                "convert it with np.asarray(PIL.Image.open(path).convert('RGB'))."
            )
        if image_format != self.model.image_format:
            image = image[..., ::-1]
        resized = torch.as_tensor(self.transform.apply_image(image), device=self.device)
        height, width = image.shape[:2]
        self.set_torch_image(resized.permute(2, 0, 1).contiguous()[None], (height, width))

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
        self.reset_image()
        self.features = self.model.image_encoder(self.model.preprocess(transformed_image))
        self.original_size = original_image_size
        self.input_size = (shape[2], shape[3])
        self.is_image_set = True

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
        original_size = self._encoded_image()[2]
        check_together(point_coords, point_labels)
        coords = labels = boxes = masks = None
        if point_coords is not None:
            coords = self._tensor(self.transform.apply_coords(point_coords, original_size))
            labels = torch.as_tensor(point_labels, dtype=torch.int, device=self.device)[None]
        if box is not None:
            boxes = self._tensor(self.transform.apply_boxes(np.asarray(box), original_size))[0]
        if mask_input is not None:
            masks = self._tensor(mask_input)
        outputs = self.predict_torch(coords, labels, boxes, masks, multimask_output, return_logits)
        first = [as_numpy(output[0]) for output in outputs]
        return first[0], first[1], first[2]

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
        features, input_size, original_size = self._encoded_image()
        check_together(point_coords, point_labels)
        points = None
        if point_coords is not None and point_labels is not None:
            points = (point_coords, point_labels)
        sparse, dense = self.model.prompt_encoder(points, boxes, mask_input)
        low_res_logits, iou_predictions = self.model.mask_decoder(
            features, self.model.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output
        )
        masks = self.model.postprocess_masks(low_res_logits, input_size, original_size)
        if not return_logits:
            masks = masks > self.model.mask_threshold
        return masks, iou_predictions, low_res_logits

    def get_image_embedding(self) -> Tensor:
        """The image embedding, (1, 256, G, G); RuntimeError before set_image."""
        return self._encoded_image()[0]

    def _encoded_image(self) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
        if self.features is None or self.input_size is None or self.original_size is None:
            raise RuntimeError("No image is set: call set_image(image) first.")
        return self.features, self.input_size, self.original_size

    def _tensor(self, values: np.ndarray) -> Tensor:
        """float32 on the model's device (float64 breaks MPS), with a prompt axis in front."""
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)[None]


def check_together(point_coords: object, point_labels: object) -> None:
    if (point_coords is None) != (point_labels is None):
        raise ValueError(
            "point_coords and point_labels must be given together, got only one of them: "
            "give each point a label, 1 for foreground or 0 for background."
        )


def as_numpy(tensor: Tensor) -> np.ndarray:
    """On the host; numpy knows no bf16, so narrow floats come as float32."""
    if tensor.is_floating_point():
        tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return tensor.cpu().numpy()
