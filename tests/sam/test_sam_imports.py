import subprocess
import sys
from pathlib import Path

import pytest
import segment_anything

import sam

# What `from segment_anything import ...` offers and scripts rely on.
UPSTREAM_NAMES = (
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "sam_model_registry",
)


@pytest.mark.parametrize(
    "module", ["sam", "sam.sam1.configs", "sam.attention.variants", "sam.files.download"]
)
def test_a_module_that_commands_list_from_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    folder = Path(sam.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0


@pytest.mark.parametrize("name", UPSTREAM_NAMES)
def test_a_name_that_upstreams_users_know_is_public(name):
    assert name in sam.__all__
    assert hasattr(segment_anything, name)


@pytest.mark.parametrize("name", sam.__all__)
def test_a_public_name_can_be_imported_from_sam(name):
    assert getattr(sam, name)


def test_a_name_that_sam_lacks_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="module 'sam' has no attribute 'SamPredicter'"):
        _ = sam.SamPredicter
