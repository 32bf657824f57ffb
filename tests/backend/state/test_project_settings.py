"""Settings that differ by project: kept in its record, the environment is the default."""

from __future__ import annotations

from typing import Any

import pytest

from taxonomist.backend.settings import Settings, load_settings
from taxonomist.backend.state.project_settings import ProjectChoices, changed_choices, effective_settings, origin_of
from taxonomist.taxonomy.errors import ConfigError


def test_the_environment_is_the_default_and_the_project_wins(settings: Settings) -> None:
    environment = settings.model_copy(update={"min_annotators": 3, "product_field": "sku"})
    assert effective_settings(ProjectChoices(), environment).annotators == 3
    chosen = effective_settings(ProjectChoices(annotators=1, target=0.6), environment)
    assert (chosen.annotators, chosen.target, chosen.product_field, chosen.promotion) == (1, 0.6, "sku", "auto")


def test_assignments_are_checked_and_an_empty_one_returns_to_the_environment() -> None:
    choices = changed_choices(ProjectChoices(), ["annotators=1", "product_field = sku", "target_precision=0.8"])
    assert choices == ProjectChoices(annotators=1, product_field="sku", target=0.8)
    assert changed_choices(choices, ["annotators="]) == ProjectChoices(product_field="sku", target=0.8)
    assert changed_choices(choices, ["product_field={product}/*.jpg"]).product_field == "{product}/*.jpg"


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("annotators", "not an assignment"),
        ("annotators=0", "'annotators'.*seen: '0'"),
        ("annotators=two", "'annotators'.*seen: 'two'"),
        ("agreement=1.2", "'min_agreement'"),
        ("agreement=all", "'agreement'"),
        ("target=1", "'target'"),
        ("promotion=never", "'promotion'"),
        ("promise=certain", "'promise'"),
        ("anotators=2", "did you mean 'annotators'"),
        ("port=9", "no setting 'port'"),
        ("product_field=*.jpg", "'product_field'"),
        ("product_field={sku}_*.jpg", "'product_field'"),
        ("product_field={product}_{product}", "'product_field'"),
    ],
)
def test_a_wrong_assignment_names_the_setting_and_the_value(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        changed_choices(ProjectChoices(), [assignment])


def test_the_origin_of_a_value(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXONOMIST_MIN_ANNOTATORS", "3")
    loaded = load_settings(home=settings.home)
    assert origin_of(ProjectChoices(annotators=1), loaded, "annotators") == "project"
    assert origin_of(ProjectChoices(), loaded, "annotators") == "TAXONOMIST_MIN_ANNOTATORS"
    assert origin_of(ProjectChoices(), loaded, "target") == "default"


def test_the_share_under_its_former_name_is_read() -> None:
    """Earlier releases called it `agreement`, in the record and on the command line."""
    assert ProjectChoices.model_validate({"agreement": 0.5}) == ProjectChoices(min_agreement=0.5)
    choices = changed_choices(ProjectChoices(), ["agreement=0.5"])
    assert choices == ProjectChoices(min_agreement=0.5)
    assert changed_choices(choices, ["agreement=majority"]) == ProjectChoices(agreement="majority", min_agreement=0.5)


@pytest.mark.parametrize(
    ("choices", "needed"),
    [
        ({}, (2, 4, 5)),
        ({"agreement": "majority"}, (2, 3, 4)),
        ({"agreement": "majority", "min_agreement": 0.8}, (3, 4, 6)),
        ({"min_agreement": 0.5}, (2, 3, 4)),
    ],
)
def test_votes_that_a_label_needs(settings: Settings, choices: dict[str, Any], needed: tuple[int, ...]) -> None:
    """Of 3, 5 and 7 annotators."""
    policy = effective_settings(ProjectChoices(**choices), settings).policy(settings.agreement_policy)
    assert tuple(policy.votes_needed(people) for people in (3, 5, 7)) == needed
