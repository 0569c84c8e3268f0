"""What a user installs: the wheel, away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sam", "hooks", "results", "benchmarking", "dashboards")


@pytest.fixture(scope="module")
def unpacked_wheel(tmp_path_factory):
    """The wheel's content, unpacked where no file of the checkout is in reach."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", folder, ROOT], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run_outside(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code that finds our packages in the wheel's content alone."""
    guarded = f"import sys; sys.path.insert(0, {str(site)!r}); {code}"
    return subprocess.run(
        [sys.executable, "-P", "-c", guarded], cwd=site.parent, capture_output=True, text=True
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_package(package, unpacked_wheel):
    answer = run_outside(unpacked_wheel, f"import {package}; print({package}.__file__)")

    assert answer.stdout.startswith(str(unpacked_wheel)), answer.stderr


def test_the_wheel_holds_the_photographs(unpacked_wheel):
    code = (
        "from benchmarking.choices.inputs import read_input; "
        "from results.records.case import TimingPlan; "
        "print(len(read_input('images', TimingPlan(), 64, None).images))"
    )
    answer = run_outside(unpacked_wheel, code)

    assert answer.stdout.strip() == "4", answer.stderr


def test_the_command_starts_without_torch_pandas_or_pydantic(unpacked_wheel):
    code = (
        "import benchmarking.cli; "
        "print(sorted({'torch', 'pandas', 'pydantic', 'dash'} & set(sys.modules)))"
    )
    answer = run_outside(unpacked_wheel, code)

    assert answer.stdout.strip() == "[]", answer.stderr
