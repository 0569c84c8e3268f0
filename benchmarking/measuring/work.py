"""What a forward has to do, by module: counted on the meta device, where nothing is computed.

If a family knows its FLOPs and least bytes, those are taken; what operations move, and all that a
family does not know, is counted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from results.records.case import Case, TimingPlan
from results.records.measurement import ENCODER, Work
from sam.work import Formats

from ..choices.execution import timed_modules
from ..choices.families import family_of, find_model
from ..choices.precision import PRECISIONS, chosen_attention
from .encoders import without_weights

OVERWRITING = ("copy_", "fill_", "zero_")  # of these, what was there before is not read
CREATING = ("ones", "zeros", "full", "new_")  # which look at no more than a tensor's shape
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def case_work(
    case: Case, plan: TimingPlan, encoder: nn.Module, dtype: torch.dtype
) -> dict[str, Work]:
    """The work of one forward of a batch by module, the encoder among them.

    Args:
        case: What is measured.
        plan: Which modules are timed.
        encoder: The image encoder, with weights.
        dtype: Of the images.
    """
    found = timed_modules(case, plan, without_weights(encoder))
    modules = {name: timed.module for name, timed in found.items()}
    shape = (case.batch_size, 3, case.image_size, case.image_size)
    counted = count_work(modules, torch.empty(shape, device="meta", dtype=dtype))
    known = known_work(case)
    # An execution that fuses operations moves less than they do one by one.
    is_eager = case.execution == "eager"
    return {
        name: known.get(name, work).model_copy(
            update={"moved_bytes": work.moved_bytes if is_eager else None}
        )
        for name, work in counted.items()
    }


def known_work(case: Case) -> dict[str, Work]:
    """The work of one forward by module, as far as the model's family knows it from shapes."""
    family = family_of(case.model)
    if family.work is None:
        return {}
    precision = PRECISIONS[case.precision]
    weight = ITEM_BYTES[precision.dtype]
    formats = Formats(
        weight,
        residual=4 if precision.keeps_residual else weight,
        eight_bits=family.eight_bit_layers.get(precision.eight_bits or "", ()),
    )
    config = find_model(case.model).config
    works = family.work(config, case.image_size, chosen_attention(case), formats)
    return {
        name or ENCODER: Work(
            flops=work.flops * case.batch_size,
            least_flops=work.least_flops * case.batch_size,
            least_bytes=work.least_bytes(case.batch_size),
        )
        for name, work in works.items()
    }


def count_work(modules: Mapping[str, nn.Module], images: Tensor) -> dict[str, Work]:
    """The work of any encoder's modules; where nothing is known of padding, all FLOPs are least."""
    encoder = modules[ENCODER]
    # In inference mode an operation such as fused attention is one, as it is on a GPU.
    with torch.inference_mode():
        flops = count_flops(modules, images)
        with CountedBytes(modules) as counted:
            encoder(images)
    return {
        name: Work(
            flops=flops[name],
            least_flops=flops[name],
            least_bytes=counted.least_bytes[name],
            moved_bytes=counted.moved_bytes[name],
        )
        for name in modules
    }


def count_flops(modules: Mapping[str, nn.Module], images: Tensor) -> dict[str, int]:
    """FLOPs of a forward by module; 2 FLOP = 1 MAC."""
    encoder = modules[ENCODER]
    counter = FlopCounterMode(display=False)
    with counter:
        encoder(images)
    by_module: Mapping[str, Mapping[Any, int]] = counter.get_flop_counts()
    root = type(encoder).__name__
    paths = {id(module): f"{root}.{name}" for name, module in encoder.named_modules()}
    paths[id(encoder)] = root
    # A module without a matrix product or convolution has no entry: it has no FLOPs.
    return {
        name: sum(by_module.get(paths[id(module)], {}).values()) for name, module in modules.items()
    }


class CountedBytes(TorchDispatchMode):
    """Counts bytes while it is entered, for modules and all that runs in them.

    moved_bytes: Of every operation's inputs and outputs. A view moves nothing.
    least_bytes: Of a module's weights, inputs and outputs.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.modules = modules
        self.open: list[str] = []
        self.read: set[int] = set()
        self.moved_bytes: dict[str, int] = defaultdict(int)
        self.least_bytes: dict[str, int] = defaultdict(int)

    def __enter__(self) -> CountedBytes:
        self.handles = [
            handle for name, module in self.modules.items() for handle in self._hook(name, module)
        ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()
        for name, module in self.modules.items():  # of weights, those that something reads
            held = (*module.parameters(), *module.buffers())
            self.least_bytes[name] += sum(
                each.nbytes for each in held if storage(each) in self.read
            )

    def _hook(self, name: str, module: nn.Module) -> Iterator[Any]:
        def enter(module: nn.Module, inputs: Any, named: Any) -> None:
            self.open.append(name)
            self.least_bytes[name] += nbytes(inputs) + nbytes(named)

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self.open.pop()
            self.least_bytes[name] += nbytes(output)

        yield module.register_forward_pre_hook(enter, with_kwargs=True)
        yield module.register_forward_hook(leave, always_call=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.read.update(storage(each) for each in tensors((args, kwargs)))
        output = func(*args, **(kwargs or {}))
        read = (args, kwargs)
        if func.__name__.startswith(OVERWRITING):
            read = ([each for each in args[1:] if not is_number(each)], kwargs)
        moved = operation_bytes(func, read, output)
        for name in self.open:
            self.moved_bytes[name] += moved
        return output


def operation_bytes(func: Any, inputs: Any, output: Any) -> int:
    """What an operation reads and writes; nothing where it only looks at memory another way."""
    name = func.__name__
    if "empty" in name or name.startswith("scalar_tensor"):  # reserves memory, or holds a number
        return 0
    if name.startswith(CREATING):
        return nbytes(output)
    is_in_place = func._schema.is_mutable
    own = {storage(each) for each in tensors(inputs)}
    is_view = all(storage(each) in own for each in tensors(output))
    return 0 if is_view and not is_in_place else nbytes(inputs) + nbytes(output)


def tensors(values: Any) -> Iterator[Tensor]:
    return (each for each in tree_leaves(values) if isinstance(each, Tensor))


def nbytes(values: Any) -> int:
    """Bytes of all tensors; of one that repeats itself along a dimension, what is there."""
    return sum(
        each.element_size()
        * math.prod(size for size, stride in zip(each.shape, each.stride(), strict=True) if stride)
        for each in tensors(values)
    )


def is_number(value: Any) -> bool:
    """Whether a tensor is one number, however often it repeats itself: versions of torch differ in
    whether they write a number as such.
    """
    return isinstance(value, Tensor) and not any(value.stride())


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
