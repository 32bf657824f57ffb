"""The bounds of a labelling config: every way to make one large is refused before much is built of it."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from taxonomist.taxonomy.errors import ConfigError, ConfigTooLargeError
from taxonomist.taxonomy.label_config import bounds, parse_label_config, parsing
from taxonomist.taxonomy.label_config.cache import ConfigCache
from taxonomist.taxonomy.label_config.former_nodes import forget_parsed_configs

IMAGE = '<Image name="image" value="$image"/>'


def config(choices: str, *, around: int = 0, controls: str = "") -> str:
    taxonomy = f'<Taxonomy name="t" toName="image">{choices}</Taxonomy>'
    return f"<View>{'<View>' * around}{IMAGE}{taxonomy}{controls}{'</View>' * around}</View>"


def flat(count: int) -> str:
    return "".join(f'<Choice value="c{number}"/>' for number in range(count))


def nested(levels: int, name: str = "n") -> str:
    return f'<Choice value="{name}">' * levels + "</Choice>" * levels


TOO_LARGE = {
    "choices": (config(flat(50_001)), r"50,001 choices; at most 50,000"),
    "many choices": (config(flat(150_000)), r"150,000 choices; at most 50,000"),
    "levels": (config(nested(65)), r"65 levels of choices; at most 64"),
    "very deep": (config(nested(20_000)), r"20,000 levels of choices; at most 64"),
    "views": (config(flat(1), around=63), r"65 levels of elements other than choices; at most 64"),
    "other elements": (config(flat(1), controls="<Header/>" * 50_001), r"elements other than choices; at most 50,000"),
    "text": (config(flat(1)) + " " * 4_000_000, r"4,000,\d+ characters; at most 4,000,000"),
    "a shared store": (
        "<View>"
        + IMAGE
        + f'<Taxonomy name="t" toName="image" sharedStore="s">{flat(10_000)}</Taxonomy>'
        + "".join(f'<Taxonomy name="t{n}" toName="image" sharedStore="s"/>' for n in range(30_000))
        + "</View>",
        r"more than 50,000 choices",
    ),
    "a long name above many choices": (
        config(f'<Choice value="{"x" * 100_000}">{flat(40_000)}</Choice>'),
        r"characters; at most 16,000,000 characters",
    ),
}


@pytest.mark.parametrize(("xml", "reason"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_config_that_exceeds_a_bound_is_refused_with_limit_and_value(xml: str, reason: str) -> None:
    forget_parsed_configs()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigTooLargeError, match=reason):
            parse_label_config(xml)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000_000
    assert kept < 1_000_000


def test_the_largest_configs_are_read() -> None:
    (tree,) = parse_label_config(config(flat(50_000))).trees
    assert len(tree) == 50_000
    (tree,) = parse_label_config(config(nested(64), around=61)).trees
    assert tree.depth == 64


def test_entities_and_other_documents_are_refused() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>'
    for xml in (bomb, "<View", "no XML", "<View/>" * 2, ""):
        with pytest.raises(ConfigError, match="cannot be read as XML"):
            parse_label_config(xml)


def test_a_text_is_read_once_whatever_comes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(xml: str) -> object:
        read.append(xml)
        return bounds.read_elements(xml)

    monkeypatch.setattr(parsing, "read_elements", count)
    good, bad, large = config(flat(3)) + "<!-- once -->", "<View><!-- once --></View>", config(flat(50_002))
    for _ in range(3):
        parse_label_config(good)
        for xml in (bad, large):
            with pytest.raises(ConfigError):
                parse_label_config(xml)
    assert read == [good, bad, large]


def test_the_cache_is_bounded_by_entries_and_by_size() -> None:
    cache = ConfigCache[str](entries=3, total=100)
    for number in range(10):
        cache.get(number, lambda: ("config", 1))
    assert cache.size == 3
    cache.get("large", lambda: ("config", 99))
    assert cache.size == 100
    cache.get("larger", lambda: ("config", 1000))  # the last one stays, since a request has it anyway
    assert cache.size == 1000
    cache.get("small", lambda: ("config", 1))
    assert cache.size == 1


def test_a_known_config_does_not_wait_for_one_that_is_parsed() -> None:
    cache = ConfigCache[str](entries=3, total=100)
    cache.get("known", lambda: ("config", 1))
    begun, released = threading.Event(), threading.Event()

    def slow() -> tuple[str, int]:
        begun.set()
        assert released.wait(30)
        return "slow", 1

    thread = threading.Thread(target=cache.get, args=("slow", slow))
    thread.start()
    assert begun.wait(30)
    assert cache.get("known", lambda: ("made again", 1)) == "config"
    released.set()
    thread.join()
    assert cache.get("slow", lambda: ("made again", 1)) == "slow"
