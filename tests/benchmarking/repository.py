"""Git as tests run it."""

from __future__ import annotations

import os
import subprocess

GIT = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=0")


def git(folder, *words):
    # Without a person's own settings, which could demand signatures or other names of branches.
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        [*GIT, "-C", str(folder), *words],
        env={**os.environ, **quiet}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()
