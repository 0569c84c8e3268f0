"""Two sets of cases side by side that ran on several GPUs, or on none."""

from __future__ import annotations

import pandas as pd

from results.answers.compare import compare_cases, matched


def test_cases_of_two_gpus_under_one_device_s_name_are_two(make_cases):
    both = pd.concat([make_cases({4: 0.1}), make_cases({4: 0.4}, gpu="NVIDIA H100")])
    comparison = compare_cases(both, both)

    assert list(matched(comparison)["ratio"]) == [1.0, 1.0]
    assert set(comparison["gpu"]) == {"NVIDIA L4", "NVIDIA H100"}


def test_cases_that_ran_on_no_gpu_are_compared(make_cases):
    comparison = compare_cases(
        make_cases({4: 0.4}, device="cpu"), make_cases({4: 0.8}, device="cpu")
    )

    assert list(matched(comparison)["ratio"]) == [2.0]
    assert comparison["compared"].isna().all()


def test_of_a_gpu_and_a_cpu_both_names_are_told(make_cases):
    comparison = compare_cases(make_cases({4: 0.4}), make_cases({4: 0.8}, device="cpu"))

    assert list(comparison["compared"]) == ["device cuda:0, then cpu; gpu NVIDIA L4, then None"]
