import csv
import statistics
from pathlib import Path

import pytest

from attnprof.cases.cards import catalogue, parse_cards
from attnprof.errors import AttnprofError

GIB = 2**30


def test_every_card_is_whole_and_has_its_context():
    cards = catalogue()
    assert {"t4", "p100", "l4", "a100", "v100", "a100-80gb", "h100", "rtx3060", "rtx3090", "rtx4090"} <= {
        card.key for card in cards
    }
    assert len({card.key for card in cards}) == len({card.name for card in cards}) == len(cards)
    for card in cards:
        assert 4 * GIB < card.total_bytes <= card.total_max_bytes < 1.06 * card.total_bytes, card
        assert 50 * 2**20 < card.context_bytes < GIB, card
        assert card.context_source
        assert 1024 <= card.threads_per_multiprocessor <= 2048
        assert "=" not in card.name
        assert ";" not in card.name


def test_a_budget_uses_the_lowest_memory_that_drivers_report():
    [t4] = parse_cards("t4")
    assert t4.total_bytes == 15636037632  # 14911 MiB: Kaggle's driver in 2026; others up to 15109
    assert f"total_bytes={t4.total_bytes};" in t4.description()


def test_contexts_are_the_medians_of_the_reports():
    units = {"GiB": 1024, "MiB": 1, "KiB": 2**-10}
    by_card = {}
    with (Path(__file__).parents[2] / "docs" / "context-reports.csv").open() as stream:
        for row in csv.DictReader(stream):
            parts = [row[name].split() for name in ("in_use", "allocated", "reserved_unallocated")]
            in_use, allocated, unused = (float(number) * units[unit] for number, unit in parts)
            assert in_use - allocated - unused == pytest.approx(float(row["context_mib"]), abs=0.1)
            by_card.setdefault(row["card"], {}).setdefault(row["group"], []).append(float(row["context_mib"]))
    cards = {card.key: card for card in catalogue()}
    for key, groups in by_card.items():
        median = statistics.median(statistics.median(group) for group in groups.values())
        assert cards[key].context_bytes / 2**20 == pytest.approx(median, abs=0.51), key
    unreported = [card for card in cards.values() if card.key not in by_card]
    assert {card.context_source for card in unreported} == {"estimated from the other cards"}
    for card in unreported:
        threads = card.multiprocessors * card.threads_per_multiprocessor / 1024
        assert card.context_bytes / 2**20 == pytest.approx(38 + 2.2 * threads, abs=0.51)


@pytest.mark.parametrize("spelling", ["t4", "T4", "Tesla T4", "nvidia-t4"])
def test_the_same_card_in_other_words(spelling):
    assert str(parse_cards(spelling)[0]) == "t4"


def test_a_property_changes_the_card_before_it():
    t4, smaller, l4 = parse_cards("t4,t4,memory=8GB,context=0,l4")
    assert (smaller.total_bytes, smaller.context_bytes) == (8 * 10**9, 0)
    assert str(smaller) == "t4,memory=8GB,context=0"
    assert (t4.total_bytes, l4.key) == (15636037632, "l4")
    assert parse_cards("t4,memory=8GB,memory=9GB") == parse_cards("t4,memory=9GB")


def test_a_context_for_every_card_that_names_none():
    t4, l4 = parse_cards("t4,context=100MiB,l4", context="300MiB")
    assert (t4.context_bytes, l4.context_bytes) == (100 * 2**20, 300 * 2**20)


def test_named_twice_it_is_emulated_once():
    assert len(parse_cards("t4,T4,tesla t4")) == 1


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("t5", "'t5' is not in the catalogue: did you mean t4"),
        ("a100-40", "did you mean a100"),
        ("rtx 3900", "did you mean rtx3090"),
        ("", "'' is not in the catalogue"),
        ("memory=4GB", "comes before any card: write a card first, as in t4,memory=4GB"),
        ("t4,sms=4", "'sms' is not a property that can be set: use memory or context"),
        ("t4,memory=lots", "'lots' is not a memory size"),
        ("t4,memory=100MiB", "would take all of the memory"),
    ],
)
def test_bad_spellings_say_what_to_do(spelling, message):
    with pytest.raises(AttnprofError, match=message.replace("(", r"\(")):
        parse_cards(spelling)
