"""Encoders that are not ours: any module that takes images, made by a function that a person names.

"package.module:function", found as Python finds it, the folder that the command runs in included.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from results.records.errors import one_line

from ..errors import SweepError, quoted


def load_encoder(path: str, image_size: int, seed: int = 0) -> nn.Module:
    """Make an encoder, on the CPU, in evaluation mode.

    Args:
        path: "package.module:function".
        image_size: Pixels along an edge; given to a function that has a parameter of this name.
        seed: Of random weights, so that making it again makes the same.

    Raises:
        SweepError: Where there is no such function, or it makes no module.
    """
    function = find_function(path)
    try:
        takes_size = "image_size" in inspect.signature(function).parameters
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = function(image_size=image_size) if takes_size else function()
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise SweepError(f"--encoder {path} failed: {reason}") from error
    if not isinstance(encoder, nn.Module):
        raise SweepError(
            f"--encoder must name a function that returns a torch.nn.Module; {path} returned "
            f"{quoted(type(encoder).__name__)}."
        )
    return encoder.eval().requires_grad_(False)


def find_function(path: str) -> Callable[..., Any]:
    module_name, _, name = path.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # last, so that a file here hides no package
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise SweepError(
            f"--encoder {path}: {module_name} must be a module that can be imported from here: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    function: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(function):
        own = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        raise SweepError(
            f"--encoder {path}: {module_name} has no function {quoted(name)}; it has: "
            f"{', '.join(own) or 'none'}."
        )
    return function


def first_tensor(output: Any) -> Tensor:
    """What an encoder returns, or the first tensor of it: some return several, or a dict."""
    if isinstance(output, Tensor):
        return output
    found = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
    if found is None:
        raise SweepError(
            f"--encoder must name an encoder that returns a Tensor, or several; this one returned "
            f"{quoted(type(output).__name__)}."
        )
    return found


def without_weights(module: nn.Module) -> nn.Module:
    """A copy on the meta device; the weights themselves are never copied."""
    stand_ins: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        bare = tensor.detach().to("meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        stand_ins[id(tensor)] = nn.Parameter(bare, requires_grad=False) if is_parameter else bare
    copy = deepcopy(module, stand_ins)
    for each in copy.modules():  # a compiled forward is still of the true module
        if hasattr(vars(each).get("forward"), "_torchdynamo_orig_callable"):
            del each.forward
    return copy
