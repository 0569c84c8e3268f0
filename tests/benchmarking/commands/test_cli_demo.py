"""`sam-bench demo`: what it says, and what it refuses."""

from __future__ import annotations

from results.records.store import Store


def test_the_command_says_how_many_records_it_wrote(short_demo, invoke):
    result = invoke("demo --store made-up")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{len(Store('made-up').read().records)} made-up records in ")


def test_the_next_command_that_is_named_works(short_demo, invoke):
    said = invoke("demo --store made-up").stdout
    result = invoke(said.partition("sam-bench ")[2].strip())

    assert result.exit_code == 0, result.stderr
    assert "vit_b" in result.stdout


def test_a_store_with_records_is_refused_in_one_line(invoke, make_store, make_record):
    store = make_store(make_record())
    before = sorted(store.path.rglob("*"))
    result = invoke("demo --store", store.path)

    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "holds records already" in result.stderr
    assert sorted(store.path.rglob("*")) == before
