"""What the gate is asked for: mistakes, which cost no launch, and what a launch is typed with."""

from __future__ import annotations

import sys
from functools import partial

import pytest

from benchmarking.gate import gate as gate_file
from benchmarking.gate.gate import GateRunError

from ..repository import git

REVISIONS = "compare --ab HEAD ."


@pytest.fixture
def asked(monkeypatch):
    """What gates were made of; none is run."""
    made = []

    class Gate:
        def __init__(self, sources, options, *more):
            made.append((sources, options))

        def run(self):
            raise GateRunError("it was not to be run")

    monkeypatch.setattr(gate_file, "Gate", Gate)
    return made


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """tmp_path, with a commit of one file in it."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where git runs the tests
        monkeypatch.delenv(name, raising=False)

    (tmp_path / "encoder.py").write_text("")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "first"]):
        git(tmp_path, *words)
    return partial(git, tmp_path)


@pytest.fixture
def sweep_files(tmp_path):
    for name in ("before", "after"):
        (tmp_path / f"{name}.toml").write_text('model = "tiny"\nwarmup_s = 0.25\n')
    return "compare --ab before.toml after.toml"


# Mistakes in options


PERCENTAGES = (
    "0.03", "3", "300%", "nan%", "inf%", "-3%", "3 %", "1e1%", "3%%", "%", "", "\uff13%", "x" * 500,
    "1.2345678%",
)  # fmt: skip


@pytest.mark.parametrize("option", ["--smallest", "--margin"])
@pytest.mark.parametrize("value", PERCENTAGES, ids=range(len(PERCENTAGES)))
def test_a_share_must_be_a_percentage_with_its_sign(invoke, asked, mistake, option, value):
    line = mistake(invoke(f"{REVISIONS} {option}", value))

    assert line.startswith(f"Error: {option} must be a percentage with its sign, such as 3%, got ")
    assert asked == []


@pytest.mark.parametrize(
    "value", ["5", "20,10", "10,10", "0", "-6", "6,", "ten", "", "6.5", "99999"]
)
def test_pairs_must_ascend_from_six(invoke, asked, mistake, value):
    line = mistake(invoke(f"{REVISIONS} --pairs", value))

    assert line.startswith("Error: --pairs must be ascending numbers of at least ")
    assert line.endswith(f"got {value!r}.")
    assert asked == []


MARGINS = ("--margin 3%", "--margin 5%", "--smallest 1%", "--smallest 0%", "--margin 100%")


@pytest.mark.parametrize("options", MARGINS)
def test_the_margin_must_be_below_what_is_reported(invoke, asked, mistake, options):
    line = mistake(invoke(f"{REVISIONS} {options}"))

    assert line.startswith("Error: --margin must be below --smallest, got ")
    assert asked == []


@pytest.mark.parametrize("value", ["-1", "x", "4294967296"])
def test_the_seed_must_be_a_number_that_a_generator_takes(invoke, asked, mistake, value):
    assert "--order-seed" in mistake(invoke(f"{REVISIONS} --order-seed {value}"))


@pytest.mark.parametrize("option", ["--base-python", "--head-python"])
def test_a_python_must_run(invoke, asked, repository, mistake, option):
    line = mistake(invoke(f"{REVISIONS} {option} /nowhere/python"))

    assert line == "Error: '/nowhere/python' must be a Python that runs."
    assert asked == []


def test_an_environment_of_its_own_needs_a_project(invoke, asked, repository, mistake):
    line = mistake(invoke(f"{REVISIONS} --own-environments"))

    assert "--own-environments needs a pyproject.toml" in line
    assert asked == []


# Mistakes in sides


NO_REVISIONS = ("nowhere", "main..HEAD", "$(touch x)", "a\nb", "x" * 5000, "")


@pytest.mark.parametrize("name", NO_REVISIONS, ids=range(len(NO_REVISIONS)))
def test_an_unknown_revision_is_a_mistake(invoke, asked, repository, mistake, name):
    line = mistake(invoke("compare --ab", name, "."))

    assert "must be a revision of a git repository here, a sweep file (*.toml), or '.'" in line
    assert asked == []


def test_an_option_is_no_revision(invoke, asked, repository, mistake):
    line = mistake(invoke("compare --ab -- --help ."))

    assert line.startswith("Error: '--help' must be a revision ")


def test_an_unknown_head_leaves_no_worktree_of_the_base(invoke, asked, repository, mistake):
    mistake(invoke("compare --ab HEAD nowhere"))

    assert len(repository("worktree", "list").splitlines()) == 1


def test_a_gate_that_fails_leaves_no_worktree(invoke, asked, repository, mistake):
    mistake(invoke("compare --ab HEAD HEAD"))

    assert len(asked) == 1
    assert len(repository("worktree", "list").splitlines()) == 1


def test_two_sweep_files_leave_nothing_for_config_to_set(invoke, asked, sweep_files, mistake):
    line = mistake(invoke(f"{sweep_files} --config before.toml"))

    assert line.startswith("Error: --config would set what the two sweep files set")
    assert asked == []


FILES = {
    "missing": (None, "--config must name a TOML file"),
    "empty": ("", "sets nothing"),
    "no TOML": ("model = ", "is not valid TOML"),
    "an unknown setting": ('modle = "tiny"', "Unknown setting 'modle'. Did you mean 'model'?"),
    "a wrong value": ("batch_size = 0", "--batch-size must be between 1 and 1000000, got 0"),
}


@pytest.mark.parametrize(("text", "reason"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_mistake_in_a_sweep_file_costs_no_launch(
    invoke, asked, sweep_files, mistake, tmp_path, side, text, reason
):
    path = tmp_path / f"{side}.toml"
    path.unlink() if text is None else path.write_text(text)

    assert reason in mistake(invoke(sweep_files))
    assert asked == []


SETTINGS = {
    "-b 0": "--batch-size must be between 1 and 1000000, got 0",
    "-m vit_x": "Unknown model 'vit_x'",
    "--warmup-s nan": "--warmup-s must be a number",
    "--passes latencies": "Unknown pass 'latencies'. Did you mean 'latency'?",
    "--no-such-flag": "No such option '--no-such-flag'",
}


@pytest.mark.parametrize(("words", "reason"), SETTINGS.items(), ids=SETTINGS)
def test_a_mistake_in_a_setting_costs_no_launch(invoke, asked, repository, mistake, words, reason):
    assert reason in mistake(invoke(f"{REVISIONS} {words}"))
    assert asked == []


# What a launch is typed with


@pytest.fixture
def words(invoke, asked):
    """The words of both sides' launches."""

    def look(line, *more):
        result = invoke(line, *more)
        assert "it was not to be run" in result.stderr, result.stderr
        return [" ".join(source.words) for source in asked[-1][0]]

    return look


DEFAULTS = "--passes latency,modules --max-timed-s 2 --warmup-s 1 --warmup-cap-s 5"


def test_a_launch_is_short_unless_it_is_asked_for_more(words, repository):
    assert words(REVISIONS) == [DEFAULTS] * 2


def test_a_setting_wins_over_the_gates_own(words, repository):
    told = words(f"{REVISIONS} --warmup-s 0.5 -m tiny -b 1,2")[0]

    assert told == DEFAULTS.replace("-s 1 ", "-s 0.5 ") + " --model tiny --batch-size 1,2"


def test_a_quick_gate_has_quick_launches(words, repository):
    assert words(f"{REVISIONS} --quick") == ["--quick --passes latency,modules"] * 2


def test_sweep_files_are_named_from_the_root_and_win_over_the_gates_own(
    words, sweep_files, tmp_path
):
    rest = DEFAULTS.replace(" --warmup-s 1", "")

    assert words(sweep_files) == [
        f"{rest} --config {tmp_path}/{name}.toml" for name in ("before", "after")
    ]


def test_files_are_named_from_the_root_since_launches_run_elsewhere(words, repository, tmp_path):
    (tmp_path / "photographs").mkdir()
    told = words(f"{REVISIONS} --images photographs --weights random")[0]

    assert f"--images {tmp_path}/photographs" in told
    assert "--weights random" in told


def test_the_working_tree_is_measured_where_it_is(words, asked, repository, tmp_path):
    words("compare --ab . .")
    (base, head), _ = asked[-1]

    assert [source.folder for source in (base, head)] == [tmp_path] * 2
    assert (base.side.commit, base.side.python, base.python) == (None, None, sys.executable)


def test_a_revision_is_measured_from_its_own_files(words, asked, repository, tmp_path):
    words("compare --ab HEAD .")
    (base, _), _ = asked[-1]

    assert base.side.commit == repository("rev-parse", "HEAD")
    assert base.folder != tmp_path


def test_each_side_has_the_python_that_is_named(words, asked, repository, tmp_path):
    (tmp_path / "python").symlink_to(sys.executable)
    words("compare --ab HEAD . --head-python ./python")
    (base, head), _ = asked[-1]

    assert (base.python, head.python) == (sys.executable, str(tmp_path / "python"))


# Acceptances


WORD = '{"case":"tiny b2 64px","up_to":1.1,"reason":"r","author":"Ada","date":"2026-01-02"}'
ACCEPTED = f'{{"schema_version":2,"accepted":[{WORD}]}}'


def test_a_word_that_the_head_alone_has_counts(words, asked, repository, tmp_path):
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "accepted.json").write_text(ACCEPTED)
    words(REVISIONS)

    assert [word.author for word in asked[-1][1].accepted] == ["Ada"]


def test_a_word_that_the_base_has_too_counts_no_more(words, asked, repository, tmp_path):
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "accepted.json").write_text(ACCEPTED)
    repository("add", "--all")
    repository("commit", "--quiet", "--message", "accepted")
    words(REVISIONS)

    assert list(asked[-1][1].accepted) == []


@pytest.mark.parametrize(
    "flags", ["-m tiny", "--junit x.xml", "--pairs 10", "--quick", "--accepted a.json"]
)
def test_what_only_the_gate_takes_is_refused_without_it(invoke, mistake, flags):
    line = mistake(invoke(f"compare one other {flags}"))

    assert flags.split()[0].lstrip("-")[0] in line
    assert "--ab" in line


def test_what_is_no_sweep_may_be_a_revision(invoke, mistake, make_store, make_record):
    make_store(make_record())

    assert "add --ab" in mistake(invoke("compare main ."))
