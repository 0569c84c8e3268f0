"""Encoders that are not ours: how they are found, refused, and measured like our own."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn

from benchmarking.choices.families import EXTERNAL
from benchmarking.errors import SweepError
from benchmarking.measuring.encoders import first_tensor, load_encoder
from benchmarking.measuring.measure import PassError, measure_case
from benchmarking.measuring.passes.table import default_passes
from benchmarking.measuring.rig import build_rig
from benchmarking.sweeping.planning import definition_sha256, encoder_source
from results.records.case import OWN
from results.records.measurement import ENCODER

# An encoder of two layers, as a person writes one.
OWN_FILE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.Conv2d(8, 4, 1))
"""
RETURNING = """
from torch import nn

class make(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 16, 16)
    def forward(self, images):
        found = super().forward(images)
        return {}
"""
UPSTREAM_FILE = """
from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT

def make(image_size):
    torch.manual_seed(0)
    return ImageEncoderViT(
        img_size=image_size, embed_dim=32, depth=2, num_heads=2, use_rel_pos=True, window_size=14,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), global_attn_indexes=(1,),
    )
"""
TORCHVISION_FILE = """
import torch
from torchvision.models import vit_b_16

def make(image_size):
    torch.manual_seed(0)
    model = vit_b_16(image_size=image_size, num_classes=10)
    torch.nn.init.normal_(model.heads.head.weight)  # which are zeros, as they are made
    return model
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that the command runs in; what was imported from it is forgotten afterwards."""
    path = tmp_path_factory.mktemp("folder")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.chdir(path)
        yield path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(path)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def write(folder):
    """Write a module of this text; give the path of its function `make`."""
    written = []

    def module(text=OWN_FILE):
        name = f"own_encoders_{len(written)}"
        written.append(name)
        (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return f"{name}:make"

    return module


@pytest.fixture(scope="module")
def measure(run_case):
    """Measure a tiny case of an encoder."""

    def run(path, **changes):
        return run_case(model=path, attention=OWN, weights=OWN, **changes)

    return run


# Found


def test_the_folder_that_the_command_runs_in_is_looked_at(write):
    assert isinstance(load_encoder(write(), 64), nn.Sequential)


def test_a_file_here_hides_no_package(folder):
    (folder / "torchvision.py").write_text("raise AssertionError")

    assert load_encoder("torchvision.models:resnet18", 64)


def test_a_module_within_a_package_is_found(folder):
    (folder / "own_package").mkdir()
    (folder / "own_package" / "inner.py").write_text(OWN_FILE)
    importlib.invalidate_caches()

    assert load_encoder("own_package.inner:make", 64)


def test_an_encoder_is_ready_for_inference(write):
    encoder = load_encoder(write(), 64)

    assert not any(module.training for module in encoder.modules())
    assert not any(weight.requires_grad for weight in encoder.parameters())


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        ("image_size", 64),
        ("*, image_size=1", 64),
        ("width=7, image_size=None", 64),
        ("", None),
        ("**settings", None),
        ("size=None", None),
    ],
)
def test_the_image_size_is_given_where_the_function_has_such_a_parameter(write, parameters, given):
    path = write(
        f"from torch import nn\ndef make({parameters}):\n"
        "    made = nn.Identity()\n    made.given = dict(locals()).get('image_size')\n"
        "    return made\n"
    )

    assert load_encoder(path, 64).given == given


def test_an_encoder_with_random_weights_is_made_alike_each_time(write):
    path = write()
    first, second = (load_encoder(path, 64)[0].weight for _ in range(2))

    assert torch.equal(first, second)


# Refused

BAD = {
    "no such module": ("no_such_module_here:make", "", "No module named 'no_such_module_here'"),
    "no such package": ("no.such.package:make", "", "No module named 'no'"),
    "raises at import": (None, "raise RuntimeError('two\\nlines')", "RuntimeError: two lines$"),
    "no Python": (None, "def make(:", "SyntaxError: invalid syntax"),
    "no such function": (None, "def other(): ...", "has no function 'make'; it has: other.$"),
    "no function at all": (None, "", "has no function 'make'; it has: none.$"),
    "not callable": (None, "make = 3", "has no function 'make'; it has: none.$"),
    "raises": (None, "def make(): raise OSError('no\\nfile')", "failed: OSError: no file$"),
    "asks for more": (None, "def make(width): ...", "failed: TypeError: .*: 'width'$"),
    "returns nothing": (None, "def make(): ...", r"a torch.nn.Module; \S+ returned 'NoneType'.$"),
    "returns a class": (None, "from torch import nn\ndef make(): return nn.ReLU", "'type'.$"),
    "returns a function": (None, "def make(): return print", "'builtin_function_or_method'.$"),
    "tells no parameters": ("torch:zeros", "", "--encoder torch:zeros"),
    "long error": (None, "def make(): raise OSError('x' * 10**6)", "failed: OSError: x+$"),
}


@pytest.mark.parametrize(("path", "text", "line"), BAD.values(), ids=BAD)
def test_a_function_that_makes_no_encoder_is_refused_in_one_line(write, path, text, line):
    path = path or write(text)
    with pytest.raises(SweepError, match=line) as caught:
        load_encoder(path, 64)

    assert str(caught.value).startswith("--encoder ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("output", ["None", "3", "[]", "{'a': None}", "'text'"])
def test_an_encoder_that_returns_no_tensor_is_refused(write, make_case, make_plan, output):
    case = make_case(model=write(RETURNING.format(output)), attention=OWN, weights=OWN)
    plan = make_plan(passes=("latency",))
    rig = build_rig(case, plan)
    with pytest.raises(PassError, match=r"^--encoder must name an encoder that") as caught:
        measure_case(case, plan, rig, lambda stage: None)

    assert isinstance(caught.value.error, SweepError)


# Outputs


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensor: tensor,
        lambda tensor: (tensor, torch.ones(2)),
        lambda tensor: [None, [tensor], torch.ones(2)],
        lambda tensor: {"name": "x", "features": tensor, "more": torch.ones(2)},
    ],
    ids=["tensor", "tuple", "list", "dict"],
)
def test_of_several_outputs_the_first_tensor_is_taken(wrap):
    tensor = torch.zeros(1)

    assert first_tensor(wrap(tensor)) is tensor


@pytest.mark.parametrize("output", ["(found, 3)", "{'found': found, 'more': found}"])
def test_an_encoder_of_several_outputs_is_measured(write, measure, output):
    measured = measure(write(RETURNING.format(output)), passes=("latency", "flops"))

    assert measured.output.shape == (2, 4, 4, 4)
    assert measured.latency is not None


# Measured


@pytest.fixture(scope="module", params=["upstream's", "torchvision's"])
def measured(request, write, measure):
    """The usual passes of two photographs in bf16."""
    is_upstreams = request.param == "upstream's"
    path = write(UPSTREAM_FILE if is_upstreams else TORCHVISION_FILE)
    return measure(path, image_size=32, precision="bf16", input="images", passes=default_passes())


@pytest.mark.parametrize("name", ["latency", "modules", "memory", "work", "embedding_error"])
def test_an_encoder_is_measured_as_ours_is(measured, name):
    assert getattr(measured, name) is not None


def test_what_needs_masks_is_missing_with_the_reason(measured):
    assert measured.components_s is None
    assert measured.notes == {"components": f"unsupported: {EXTERNAL.no_masks}"}


def test_the_output_is_one_tensor_an_image(measured):
    assert measured.output.finite
    assert measured.output.dtype == "bfloat16"
    assert measured.output.shape in ((2, 256, 2, 2), (2, 10))


def test_the_price_of_a_precision_is_that_of_the_encoder_in_float32(measured):
    assert 0 < measured.embedding_error.relative_l2 < 0.1


def test_all_modules_have_their_work(measured):
    inner = {name: each.work for name, each in measured.modules.items() if name != ENCODER}

    assert sum(work.flops for work in inner.values()) == measured.work.flops > 0
    assert all(work.least_bytes > 0 for work in inner.values())


def test_the_weights_are_said_to_be_the_encoders_own(measured):
    assert measured.weights.startswith("as own_encoders_")
    assert measured.weights.endswith(":make makes them")


def test_an_encoder_in_float32_is_compared_with_nothing(write, measure):
    assert measure(write(), passes=("embedding_error",)).embedding_error is None


@pytest.mark.parametrize("name", ["compile", "cudagraphs", "max-autotune"])
def test_a_compiled_encoder_may_return_more_than_one_tensor(write, measure, monkeypatch, name):
    monkeypatch.setattr(torch, "compile", lambda encoder, **options: encoder)
    path = write(
        """
from torch import nn


class Named(nn.Conv2d):
    def forward(self, images):
        return {"features": super().forward(images)}


def make():
    return Named(3, 4, 16, 16)
"""
    )

    assert measure(path, execution=name, passes=("latency",)).output.shape == (2, 4, 4, 4)


def test_an_encoder_gets_images_as_sam_does(write, make_case, make_plan):
    case, plan = make_case(model=write(), attention=OWN, weights=OWN), make_plan()
    pixels = torch.rand(3, 64, 48) * 255
    ours = build_rig(make_case(), plan).model

    assert torch.equal(build_rig(case, plan).preprocess(pixels), ours.preprocess(pixels))


def test_any_image_size_that_the_encoder_takes_is_measured(write, measure):
    assert measure(write(), image_size=50, passes=("flops",)).output.shape == (2, 4, 3, 3)


INTEGERS = """
import torch
from torch import nn

class make(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 16, 16)
        self.register_buffer("order", torch.tensor([2, 1, 0]))
    def forward(self, images):
        return super().forward(images[:, self.order])
"""
PLAIN_TENSOR = """
import torch
from torch import nn

class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 16, 16)
        self.scale = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    def forward(self, images):
        return self.inner(images * self.scale)
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_whole_numbers_stay_whole_numbers_in_every_precision(write, measure, precision):
    assert measure(write(INTEGERS), precision=precision, passes=("latency",)).latency


def test_an_encoder_whose_work_can_not_be_counted_is_measured_with_a_note(write, measure):
    measured = measure(write(PLAIN_TENSOR), passes=("modules", "flops"), module_pattern="inner")

    assert measured.work is None
    assert measured.modules["inner"].work is None
    assert measured.notes["flops"].startswith("this encoder does not run on the meta device: ")


def test_an_embedding_of_zeros_has_no_error_and_a_note(write, measure):
    path = write(
        OWN_FILE.replace("return", "made =")
        + """
    for weight in made.parameters():
        nn.init.zeros_(weight)
    return made
"""
    )
    measured = measure(path, precision="bf16", passes=("embedding_error",))

    assert measured.embedding_error is None
    assert "embedding_error" in measured.notes


# A sweep of its own for each state of the file


def definition(path, make_case, make_plan, environment):
    case = make_case(model=path, attention=OWN, weights=OWN)
    return definition_sha256([case], make_plan(), environment)


def test_an_encoder_whose_file_changed_makes_another_sweep(
    folder, write, make_case, make_plan, environment
):
    path = write()
    first, again = (definition(path, make_case, make_plan, environment) for _ in range(2))
    (folder / f"{path.removesuffix(':make')}.py").write_text(OWN_FILE + "# changed")

    assert first == again != definition(path, make_case, make_plan, environment)


@pytest.mark.parametrize("text", [OWN_FILE, "raise AssertionError", "import no_such_module"])
def test_an_encoders_file_is_found_without_running_it(folder, write, text):
    path = write(text)
    name = path.removesuffix(":make")

    assert encoder_source(path) == str(folder / f"{name}.py")
    assert name not in sys.modules


def test_the_file_of_a_module_in_a_folder_is_found_without_running_any(folder):
    (folder / "quiet" / "deep").mkdir(parents=True)
    for place in ("quiet/__init__.py", "quiet/deep/inner.py"):
        (folder / place).write_text("raise AssertionError")

    assert encoder_source("quiet.deep.inner:make") == str(folder / "quiet/deep/inner.py")
    assert encoder_source("quiet:make") == str(folder / "quiet/__init__.py")


@pytest.mark.parametrize("path", ["no_such_module_here:make", "no.such:make", "sys:exit", "a..b:c"])
def test_a_module_without_a_file_has_none(path):
    assert encoder_source(path) is None
