"""The project's record remembers which nodes its taxonomy had."""

from __future__ import annotations

import json

from taxonomist.backend.services import Services
from tests.small_world import CONFIG

WITHOUT_RED = CONFIG.replace('<Choice value="Red"/>', "")


def gone(services: Services) -> dict[str, tuple[tuple[str, ...], ...]]:
    return Services(services.settings).projects.get("7").gone


def test_every_change_of_the_config_is_compared(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    assert gone(services) == {}
    services.projects.update("7", label_config=WITHOUT_RED)
    assert gone(services) == {"colour": (("Warm", "Red"),)}
    services.projects.update(
        "7", label_config=WITHOUT_RED.replace('name="image"', 'name="picture"').replace('="image"', '="picture"')
    )
    assert gone(services) == {"colour": (("Warm", "Red"),)}
    services.projects.update("7", label_config=CONFIG)
    assert gone(services) == {}


def test_a_config_that_cannot_be_used_hides_no_change(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    for refused in ("<View/>", "no XML", '<View><Image name="image" value="$image"/></View>'):
        services.projects.update("7", label_config=refused)
        assert gone(services) == {}
    services.projects.update("7", label_config=WITHOUT_RED)
    assert gone(services) == {"colour": (("Warm", "Red"),)}


def test_a_record_of_an_earlier_release_is_read(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    path = services.settings.home / "projects" / "7.json"
    record = json.loads(path.read_text())
    for name in ("gone", "former_config", "label_decisions", "imports"):
        del record[name]
    path.write_text(json.dumps(record))
    found = Services(services.settings).projects.get("7")
    assert (found.gone, found.label_decisions, found.imports) == ({}, (), {})
    services.projects.update("7", label_config=WITHOUT_RED)
    assert gone(services) == {"colour": (("Warm", "Red"),)}


def matched(services: Services) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {match.old: match.new for match in Services(services.settings).projects.get("7").matches}


def test_nodes_are_matched_within_the_change_that_took_them_away(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    services.projects.update("7", label_config=CONFIG.replace('"Red"', '"RED"'))
    assert matched(services) == {("Warm", "Red"): ("Warm", "RED")}
    services.projects.update("7", label_config=CONFIG.replace('"Red"', '"RED"').replace('"Cold"', '"Cool"'))
    assert matched(services) == {("Warm", "Red"): ("Warm", "RED"), ("Cold",): ("Cool",)}
    services.projects.update("7", label_config=CONFIG)  # they are back, and what was in their place is gone
    assert matched(services) == {("Warm", "RED"): ("Warm", "Red"), ("Cool",): ("Cold",)}
    services.projects.update("7", label_config=WITHOUT_RED)
    services.projects.update("7", label_config=CONFIG.replace('"Red"', '"RED"'))  # comes later: it may mean anything
    assert ("Warm", "Red") not in matched(services)
