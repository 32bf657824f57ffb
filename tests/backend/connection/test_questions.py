"""What `connect` asks about a project: proposals, wrong answers, and what `--yes` takes.

Answers on a real terminal are in tests/e2e/test_connect.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection import questions
from taxonomist.backend.connection.questions import ask_settings
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """Label Studio with sixty tasks, four of each article."""
    with StandIn() as stand_in:
        for number in range(1, 61):
            data = {"image": f"https://x/IMG_{number:04}.jpg", "sku": f"A{(number - 1) // 4}"}
            stand_in.add_task(number, data["image"], data=data)
        yield stand_in


@pytest.fixture
def connected(services: Services, stand_in: StandIn) -> Services:
    services.projects.update("4", label_config=CONFIG, label_studio_url=stand_in.url, api_key=SecretStr("token"))
    return services


class Person:
    """Answers the questions, and takes the proposal where an answer is None."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.proposals: list[str] = []
        self.heard: list[str] = []

    def choose(self, question: str, proposal: str) -> str:
        self.proposals.append(proposal)
        answer = self.answers.pop(0)
        return proposal if answer is None else answer

    def ask(
        self, services: Services, *, product_field: str | None = None, annotators: int | None = None, asked: bool = True
    ) -> tuple[str | None, int | None]:
        """Ask them, and return what is kept for the project."""
        ask_settings(
            services,
            "4",
            product_field=product_field,
            annotators=annotators,
            choose=self.choose,
            say=self.heard.append,
            asked=asked,
        )
        assert self.answers == []
        kept = services.projects.get("4").settings
        return kept.product_field, kept.annotators


def test_a_proposal_is_taken(connected: Services) -> None:
    person = Person(None, "1")
    assert person.ask(connected) == ("sku", 1)
    assert person.proposals == ["sku", "2"]
    assert person.heard == ["Products are named by sku: 15 in the first 60 tasks."]
    assert Person().ask(connected) == ("sku", 1)  # what is known is not asked again


def test_a_wrong_answer_is_asked_again_with_the_reason(connected: Services) -> None:
    person = Person("{article}_*", "{product}_*_{product}", "{product}_*", "0", "many", " 3 ")
    assert person.ask(connected) == ("{product}_*", 3)
    assert person.proposals == ["sku"] * 3 + ["2"] * 3
    wrong = [line for line in person.heard if line.startswith("Setting ")]
    assert len(wrong) == 4
    assert "has {product} once" in wrong[0]
    assert "seen: '0'" in wrong[2]


@pytest.mark.parametrize("answer", ["-", " - ", " "])
def test_that_nothing_names_the_products_can_be_answered_to_a_proposal(connected: Services, answer: str) -> None:
    person = Person(answer, None)
    assert person.ask(connected) == (None, None)
    assert "The products are not known" in person.heard[0]


def test_with_yes_a_state_is_not_taken(connected: Services, stand_in: StandIn) -> None:
    for number, task in stand_in.tasks.items():
        task["data"] = {"image": task["data"]["image"], "item_state": "new" if number % 2 else "used"}
    person = Person(None, None)
    assert person.ask(connected, asked=False) == (None, None)
    assert person.proposals == ["", "2"]
    assert Person(None, None).ask(connected) == ("item_state", None)


def test_with_yes_a_proposal_that_is_refused_ends_the_question(
    connected: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "propose_product_field", lambda *_, **__: "{wrong}")
    person = Person(None, None)
    assert person.ask(connected, asked=False) == (None, None)
    assert person.proposals == ["{wrong}", "2"]
    assert "has {product} once" in person.heard[0]


def test_what_is_given_is_kept_without_a_question(connected: Services, stand_in: StandIn) -> None:
    stand_in.tasks.clear()
    assert Person().ask(connected, product_field="report", annotators=4) == ("report", 4)
    with pytest.raises(ConfigError, match="has \\{product\\} once"):
        Person().ask(connected, product_field="{wrong}")


def test_what_the_environment_sets_is_not_asked(connected: Services) -> None:
    own = Services(connected.settings.model_copy(update={"product_field": "sku"}))
    person = Person("1")
    assert person.ask(own) == (None, 1)
    assert person.proposals == ["2"]
