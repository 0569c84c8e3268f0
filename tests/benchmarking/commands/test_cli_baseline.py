"""`sam-bench baseline`: what a machine measured before, and what somebody lets be slower."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime

import pytest

from results.verdicts.baselines import read_accepted, read_baseline

IDS = [f"2025010{day}-030405-abcdef" for day in (1, 2, 3)]
ACCEPT = "baseline accept 'vit_b b8 1024px' --up-to 6% --reason 'exact masks' --author Ada"
HOSTILE = {
    "lines": "a\nb\r\nc",
    "escapes": "\x1b[31mred\x1b]0;title\x07",
    "NUL": "a\0b",
    "quotes": '"], "schema_version": 9, "x": ["',
    "markdown": "| ` @org/team #1 </details>",
    "not ASCII": "Ädä \N{SNOWMAN} \u202e",
}


@pytest.fixture
def baselines(tmp_path):
    return tmp_path / "baselines"


@pytest.fixture
def store(make_store, make_record):
    """Three sweeps, of which the last was started last."""
    records = (
        make_record(sweep_id=each, started_at=f"{each[:4]}-{each[4:6]}-{each[6:8]}T03:04:05Z")
        for each in IDS
    )
    return make_store(*records)


@pytest.fixture
def author(tmp_path, monkeypatch):
    """Set git's user.name, or nobody's."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def use(name):
        subprocess.run(["git", "config", "--global", "user.name", name], check=True)

    return use


# Saving


def test_the_newest_sweep_is_saved_where_none_is_named(invoke, store, baselines):
    result = invoke("baseline save mine")

    assert result.stdout == "1 sessions, 1 cases in baselines/mine.json\n"
    assert [each.sweep_id for each in read_baseline(baselines, "mine").sessions] == [IDS[-1]]


def test_sweeps_that_are_named_are_saved_oldest_first(invoke, store, baselines):
    result = invoke("baseline save mine", IDS[1], IDS[0])
    saved = read_baseline(baselines, "mine")

    assert result.exit_code == 0, result.stderr
    assert [each.sweep_id for each in saved.sessions] == IDS[:2]
    assert [sorted(times) for times in saved.cases.values()] == [IDS[:2]]


def test_a_session_keeps_its_time_and_its_commit(invoke, store, baselines):
    invoke("baseline save mine")
    (session,) = read_baseline(baselines, "mine").sessions

    assert (session.started_at, session.commit) == ("2025-01-03T03:04:05Z", "0" * 40)


def test_saving_the_same_again_changes_nothing(invoke, store, baselines):
    invoke("baseline save mine", *IDS)
    before = (baselines / "mine.json").read_bytes()
    result = invoke("baseline save mine", *IDS)

    assert result.exit_code == 0
    assert (baselines / "mine.json").read_bytes() == before


def test_a_later_session_is_added_to_those_before(invoke, store, baselines):
    invoke("baseline save mine", IDS[0])
    invoke("baseline save mine", IDS[1])

    assert len(read_baseline(baselines, "mine").sessions) == 2


def test_a_session_of_another_machine_is_refused_and_nothing_is_saved(
    invoke, store, make_store, make_record, environment, baselines, mistake
):
    invoke("baseline save mine", IDS[0])
    before = (baselines / "mine.json").read_bytes()
    other = environment.model_copy(update={"cpu": "another CPU"})
    make_store(make_record(sweep_id="20250201-030405-abcdef", environment=other))
    line = mistake(invoke("baseline save mine", IDS[1], "20250201-030405-abcdef"))

    assert "is of cpu a CPU, and this is another CPU" in line
    assert (baselines / "mine.json").read_bytes() == before


def test_a_sweep_of_failures_alone_is_refused(invoke, make_store, make_record, mistake, baselines):
    make_store(make_record("oom"))

    assert "needs a good case" in mistake(invoke("baseline save mine"))
    assert not baselines.exists()


@pytest.mark.parametrize("sweep_id", ["20250109-030405-abcdef", "all", "../runs", ""])
def test_what_is_no_sweep_is_refused(invoke, store, baselines, mistake, sweep_id):
    mistake(invoke("baseline save mine", sweep_id))

    assert not baselines.exists()


def test_a_store_without_records_is_refused(invoke, mistake):
    assert "has no records: measure some" in mistake(invoke("baseline save mine"))


@pytest.mark.parametrize(
    "name", ["../x", "accepted", "", "a" * 200, "a/b", ".hidden", "a\nb", "\x1b[31m", "ä", "x.json"]
)
def test_a_name_that_is_no_name_is_refused_and_nothing_is_written(
    invoke, store, tmp_path, mistake, name
):
    line = mistake(invoke("baseline save", name))

    assert "A baseline's name must be of letters, digits, - and _" in line
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("folder", ["file", "file/deeper", "loop"])
@pytest.mark.parametrize("line", ["baseline save mine", ACCEPT])
def test_a_folder_that_can_not_be_written_is_refused(
    invoke, store, tmp_path, mistake, line, folder
):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "loop").symlink_to("loop")
    mistake(invoke(line, "--baselines", folder))

    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("content", ["", "{}", "[" * 200_000, '{"schema_version": 999}'])
@pytest.mark.parametrize(
    ("file", "line"), [("mine.json", "baseline save mine"), ("accepted.json", ACCEPT)]
)
def test_a_broken_file_is_refused_and_not_overwritten(
    invoke, store, baselines, mistake, content, file, line
):
    baselines.mkdir()
    (baselines / file).write_text(content)

    assert f"'baselines/{file}': " in mistake(invoke(line))
    assert (baselines / file).read_text() == content


# Listing


def test_the_list_tells_each_machine_and_how_much_is_kept_of_it(invoke, store):
    for name, ids in (("second", IDS[:1]), ("first", IDS)):
        invoke(f"baseline save {name}", *ids)

    assert invoke("baseline list").stdout == (
        "first: a CPU, torch 2.15.0: 3 sessions, 1 cases\n"
        "second: a CPU, torch 2.15.0: 1 sessions, 1 cases\n"
    )


def test_the_list_tells_what_may_be_slower(invoke):
    invoke(ACCEPT)
    today = datetime.now(UTC).date().isoformat()

    assert invoke("baseline list").stdout == (
        f"accepted: vit_b b8 1024px up to +6.0%, by Ada on {today}: exact masks\n"
    )


@pytest.mark.parametrize("folder", ["gone", "file"])
def test_where_there_is_none_the_list_says_how_to_save_one(invoke, tmp_path, folder):
    (tmp_path / "file").touch()
    result = invoke(f"baseline list --baselines {folder}")

    assert result.stdout == (
        f"'{folder}' has no baseline: save one with: sam-bench baseline save NAME\n"
    )


@pytest.mark.parametrize("file", ["mine.json", "accepted.json"])
def test_a_broken_file_is_named_by_the_list_in_one_line(invoke, baselines, mistake, file):
    baselines.mkdir()
    (baselines / file).write_text("{")

    assert f"'baselines/{file}': " in mistake(invoke("baseline list"))


# Accepting


def accept(invoke, words):
    """Accept a case with these words by option."""
    options = [each for option in ("--reason", "--author") for each in (option, words[option])]
    return invoke("baseline accept --up-to 6%", *options, words["CASE"])


def test_what_is_accepted_is_kept_with_who_said_so(invoke, baselines):
    result = invoke(ACCEPT)
    (word,) = read_accepted(baselines / "accepted.json")

    assert result.stdout == (
        "vit_b b8 1024px may be 6.0% slower, says baselines/accepted.json: commit it.\n"
    )
    assert (word.case, word.author, word.reason) == ("vit_b b8 1024px", "Ada", "exact masks")
    assert word.up_to == pytest.approx(1.06)


def test_a_second_word_is_a_line_below_the_first(invoke, baselines):
    invoke(ACCEPT)
    before = (baselines / "accepted.json").read_text().splitlines()
    invoke(ACCEPT.replace("b8", "b16"))
    after = (baselines / "accepted.json").read_text().splitlines()
    words = read_accepted(baselines / "accepted.json")

    assert [word.case for word in words] == ["vit_b b8 1024px", "vit_b b16 1024px"]
    assert len(after) == len(before) + 1


def test_the_author_is_gits_user_where_none_is_named(invoke, author, baselines):
    author("Grace Hopper")
    invoke(ACCEPT.replace(" --author Ada", ""))

    assert read_accepted(baselines / "accepted.json")[0].author == "Grace Hopper"


def test_an_author_that_is_named_wins_over_gits_user(invoke, author, baselines):
    author("Grace Hopper")
    invoke(ACCEPT)

    assert read_accepted(baselines / "accepted.json")[0].author == "Ada"


def test_without_any_author_nothing_is_accepted(invoke, author, baselines, mistake):
    line = mistake(invoke(ACCEPT.replace(" --author Ada", "")))

    assert "--author must be given, since git knows no user.name here." in line
    assert not baselines.exists()


@pytest.mark.parametrize("up_to", ["6", "0.06", "300", "-6%", "300%", "6 %", "NaN%", "٦%", ""])
def test_a_share_without_its_sign_is_never_guessed(invoke, baselines, mistake, up_to):
    line = mistake(invoke(ACCEPT.replace("--up-to 6%", ""), "--up-to", up_to))

    assert "--up-to must be a percentage with its sign" in line
    assert not baselines.exists()


REFUSED = {
    "no reason": ("--reason", ""),
    "a blank reason": ("--reason", " \n"),
    "an endless reason": ("--reason", "x" * 10**7),
    "an endless author": ("--author", "x" * 201),
}


@pytest.mark.parametrize(("option", "value"), REFUSED.values(), ids=REFUSED)
def test_a_word_that_tells_nothing_is_refused(invoke, baselines, mistake, option, value):
    assert option in mistake(invoke(ACCEPT, option, value))
    assert not baselines.exists()


@pytest.mark.parametrize("case", ["", "  "])
def test_a_word_for_no_case_is_refused(invoke, baselines, mistake, case):
    line = mistake(invoke("baseline accept --up-to 6% --reason why --author Ada", case))

    assert "CASE" in line
    assert not baselines.exists()


@pytest.mark.parametrize("option", ["CASE", "--reason", "--author"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_kept_and_drives_no_terminal(invoke, baselines, text, option):
    words = {"CASE": "a case", "--reason": "why", "--author": "Ada"} | {option: text}
    result = accept(invoke, words)
    listed = invoke("baseline list")
    (word,) = read_accepted(baselines / "accepted.json")

    assert text in (word.case, word.reason, word.author)
    for shown in (result.stdout, listed.stdout):
        assert len(shown.splitlines()) == 1
        assert shown.rstrip("\n").isprintable()


@pytest.mark.parametrize("option", ["CASE", "--reason", "--author"])
def test_bytes_that_are_no_text_are_refused(invoke, baselines, mistake, option):
    words = {"CASE": "a case", "--reason": "why", "--author": "Ada"} | {option: "a\udcffb"}

    assert option in mistake(accept(invoke, words))
    assert not baselines.exists()


def test_the_file_of_what_is_accepted_is_json_of_a_line_a_word(invoke, baselines):
    invoke(ACCEPT)
    text = (baselines / "accepted.json").read_text()

    assert len(json.loads(text)["accepted"]) == 1
    assert sum("vit_b" in line for line in text.splitlines()) == 1
