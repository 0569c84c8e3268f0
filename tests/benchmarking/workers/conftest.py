"""Cases that scripted workers measure."""

from __future__ import annotations

import pytest


@pytest.fixture
def measure(launch, make_case, make_plan):
    """Measure one case with a scripted worker; give its outcome and the stages that it told."""

    def run(script, **plan):
        stages = []
        outcome = launch(script).measure(make_case(), make_plan(**plan), stages.append)
        return outcome, stages

    return run


@pytest.fixture
def measure_batches(make_case, make_plan):
    """Measure a case a batch size; give the statuses, and the pid of the worker of each."""

    def run(launcher, *sizes, **changes):
        statuses, stages = [], []
        for size in sizes:
            case = make_case(batch_size=size, **changes)
            statuses.append(launcher.measure(case, make_plan(), stages.append).status)
        return statuses, [int(name) for name in stages if name.isdecimal()]

    return run
