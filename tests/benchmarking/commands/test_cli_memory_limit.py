"""A sweep on a device that is to seem smaller than it is: for true on a CPU."""

from __future__ import annotations

import pytest

from results.records.store import Store

LIMIT = 150_000_000
MANY = 320  # images of 128 pixels, of which two batches alone take more
HASTY = (
    "--warmup-s 0 --warmup-forwards 1 --warmup-cap-s 0.5 --min-timed-s 0 --max-timed-s 0.5 "
    "--min-forwards 1 --max-forwards 1"
)


def test_the_limit_stands_in_the_records_of_a_sweep(invoke):
    result = invoke(
        f"sweep -m tiny -s 128 -b 1,{MANY} --device cpu --input noise --passes latency {HASTY} "
        f"--memory-limit-bytes {LIMIT}"
    )
    records = Store("runs").read().records

    assert result.exit_code == 0, result.stderr
    assert [record.status for record in records] == ["ok", "oom"]
    assert {record.plan.memory_limit_bytes for record in records} == {LIMIT}


@pytest.mark.parametrize("value", ["0", "-1", "1048575", "1.5", "nan", "many", str(2**63)])
def test_a_limit_that_is_none_is_refused_in_one_line(invoke, mistake, value):
    line = mistake(invoke(f"sweep -m tiny -b 1 --memory-limit-bytes {value}"))

    assert "--memory-limit-bytes" in line
