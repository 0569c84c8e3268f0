"""The table of fleets."""

from __future__ import annotations

import pytest

from benchmarking.errors import SweepError
from benchmarking.fleet.fleets import FLEETS, LOCAL, FleetOptions, FleetRequest, find_fleet


@pytest.fixture
def sought(environment, store, make_case, monkeypatch):
    """Cases for a CPU, on a machine that reaches neither Ray nor Slurm."""
    monkeypatch.setenv("PATH", "/nowhere")
    return FleetRequest([make_case()], environment, store, FleetOptions(ray_address="127.0.0.1:1"))


@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_is_found_by_its_name_or_says_in_one_line_what_is_not_there(name, sought, refusal):
    if name == LOCAL:
        assert [slot.place for slot in find_fleet(name, sought).slots()] == ["cpu"]
    else:
        assert refusal(find_fleet, name, sought).startswith("There is no ")


def test_an_unknown_fleet_is_refused_with_a_suggestion(sought):
    with pytest.raises(SweepError, match=r"^Unknown fleet 'locale'\. Did you mean 'local'\?$"):
        find_fleet("locale", sought)
