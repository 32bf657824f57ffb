from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taxonomist.taxonomy.annotations import named_nodes, newest, newest_of_each, parse_annotation
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config
from taxonomist.taxonomy.tree import Tree
from tests.taxonomy.conftest import annotations_of

from .conftest import said

Load = Callable[[str], Any]
COMPLETE = ("Badezimmersysteme", "Geberit AquaClean", "WC-Komplettanlagen")
DUOFIX = ("Sanitärsysteme", "Installationssysteme", "Duofix")

# the newer review comes first
REVIEWED_AGAIN = [
    {"accepted": True, "created_at": "2024-02-01T00:00Z"},
    {"accepted": False, "created_at": "2024-01-01T00:00Z"},
]


@pytest.fixture
def flat() -> LabelConfig:
    return LabelConfig((Tree("media", "image", "choices", (("yes",), ("no",))),), {"image": "image"})


def annotation(**changes: Any) -> dict[str, Any]:
    """Return a minimal annotation that names one known path."""
    return {"id": 1, "task": 2, "result": [region([list(COMPLETE)])], **changes}


def region(value: Any, kind: str = "taxonomy", name: str = "media") -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": kind, "value": {kind: value}}


def test_webhook_form(recorded: Load, config: LabelConfig) -> None:
    payload = recorded("webhooks.json")["updated"]["annotation"]
    parsed = parse_annotation(payload, config)
    assert (parsed.id, parsed.task_id, parsed.annotator) == ("1", "1", "1")
    assert parsed.created_at == datetime(2026, 11, 24, 14, 54, 47, 261162, tzinfo=UTC)
    assert parsed.updated_at == datetime(2026, 11, 24, 14, 54, 48, 97393, tzinfo=UTC)
    assert parsed.labels == {"media": (DUOFIX, COMPLETE)}  # several paths are kept, side questions are not
    assert parsed.unknown == ()
    assert not any((parsed.skipped, parsed.ground_truth, parsed.reviewed, parsed.rejected))


def test_skipped_ground_truth_and_browser(recorded: Load, config: LabelConfig) -> None:
    hooks = recorded("webhooks.json")
    skipped = parse_annotation(hooks["skipped"]["annotation"], config)
    assert (skipped.skipped, skipped.labels) == (True, {})
    truth = parse_annotation(hooks["ground_truth"]["annotation"], config)
    assert (truth.ground_truth, truth.labels) == (True, {"media": (("Sort Out",),)})
    # a real browser adds regions of other controls, origin, score and meta
    assert parse_annotation(hooks["browser"]["annotation"], config).labels == {"media": (COMPLETE,)}
    (batch,) = hooks["batch"]["annotation"]
    assert parse_annotation(batch, config).labels == {"media": (COMPLETE,)}


def test_export_and_api_form_say_the_same(recorded: Load, config: LabelConfig) -> None:
    exported = [annotations_of(task, config) for task in recorded("export.json")]
    listed = [annotations_of(task, config) for task in recorded("api_tasks.json")]
    assert exported == listed
    assert [[a.annotator for a in task] for task in exported] == [["3", "4", "5"]] * 5
    assert [a.skipped for a in exported[4]] == [False, True, False]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"completed_by": 7}, "7"),
        ({"completed_by": {"id": 392, "email": "a@example.com"}}, "392"),
        ({"completed_by": {"email": "a@example.com"}}, "a@example.com"),
        ({"completed_by": None, "created_username": " anna@example.com, 3"}, "3"),
        ({"created_username": "Anna"}, "Anna"),
        ({}, "unknown-1"),
        ({"completed_by": None, "created_username": " "}, "unknown-1"),
    ],
)
def test_annotator(fields: dict[str, Any], expected: str, config: LabelConfig) -> None:
    assert parse_annotation(annotation(**fields), config).annotator == expected


@pytest.mark.parametrize(
    ("reviews", "reviewed", "rejected"),
    [
        ([], False, False),
        (None, False, False),
        ([{"accepted": True}], True, False),
        ([{"accepted": False}], False, True),
        ([{"accepted": None}, {"id": 5}], False, False),
        ([{"accepted": False}, {"accepted": True}], True, False),
        (REVIEWED_AGAIN, True, False),
    ],
)
def test_the_last_review_counts(reviews: Any, reviewed: bool, rejected: bool, config: LabelConfig) -> None:
    parsed = parse_annotation(annotation(reviews=reviews), config)
    assert (parsed.reviewed, parsed.rejected) == (reviewed, rejected)


@pytest.mark.parametrize(
    ("fields", "by_model"),
    [
        ({}, False),
        ({"lead_time": 4.7}, False),
        ({"parent_prediction": 8, "lead_time": 4.7}, False),  # a person took the suggestion
        ({"parent_prediction": 8, "lead_time": 0}, False),
        ({"parent_prediction": 8, "lead_time": None}, True),
        ({"parent_prediction": 8}, True),
        ({"parent_prediction": 8, "ground_truth": True}, False),  # a person starred it
        ({"parent_prediction": 8, "reviews": [{"accepted": True}]}, False),
        ({"parent_prediction": 8, "reviews": [{"accepted": False}]}, True),
    ],
)
def test_what_was_made_from_a_prediction_without_a_person(
    fields: dict[str, Any], by_model: bool, config: LabelConfig
) -> None:
    parsed = parse_annotation(annotation(completed_by=3, **fields), config)
    assert parsed.by_model is by_model
    assert len(newest_of_each([parsed])) == (not by_model)


def test_recorded_annotations_of_persons_and_of_the_model(recorded: Load, config: LabelConfig) -> None:
    hooks = recorded("webhooks.json")
    (batch,) = hooks["batch"]["annotation"]  # *Create annotations from predictions*
    assert parse_annotation(batch, config).by_model
    assert not parse_annotation(hooks["browser"]["annotation"], config).by_model  # a suggestion that was submitted


def test_unknown_path_is_reported_with_its_nearest_spelling(config: LabelConfig) -> None:
    wrong = ["Badezimmersysteme", "Geberit AquaClean", "WG-Komplettanlagen"]
    parsed = parse_annotation(annotation(result=[region([wrong, ["Sort Out"], ["Nothing like it"], wrong])]), config)
    assert parsed.labels == {"media": (("Sort Out",),)}
    first, second = parsed.unknown
    assert str(first) == (
        '"Badezimmersysteme › Geberit AquaClean › WG-Komplettanlagen" is not in the taxonomy "media", '
        'did you mean "Badezimmersysteme › Geberit AquaClean › WC-Komplettanlagen"?'
    )
    assert first.known == ("Badezimmersysteme", "Geberit AquaClean")
    assert str(second) == '"Nothing like it" is not in the taxonomy "media"'
    assert named_nodes(parsed, "media") == {("Sort Out",), first.known, first.known[:1]}


def test_paths_of_several_regions_are_joined_each_once(config: LabelConfig) -> None:
    regions = [region([list(DUOFIX), list(COMPLETE)]), region([list(COMPLETE)]), region([["x"]], name="other")]
    assert parse_annotation(annotation(result=regions), config).labels == {"media": (DUOFIX, COMPLETE)}


def test_choices(flat: LabelConfig) -> None:
    parsed = parse_annotation(annotation(result=[region(["yes", "maybe"], "choices")]), flat)
    assert parsed.labels == {"media": (("yes",),)}
    assert [u.path for u in parsed.unknown] == [("maybe",)]
    # the control was a taxonomy once
    parsed = parse_annotation(annotation(result=[region([["no"], ["no", "never"]])]), flat)
    assert parsed.labels == {"media": (("no",),)}
    assert [u.known for u in parsed.unknown] == [("no",)]


def test_choices_that_became_a_taxonomy(config: LabelConfig) -> None:
    parsed = parse_annotation(annotation(result=[region(["Sort Out"], "choices")]), config)
    assert parsed.labels == {"media": (("Sort Out",),)}


def test_times(config: LabelConfig) -> None:
    both = {"created_at": "2026-01-01T10:00:00+02:00", "updated_at": "2026-01-01T09:00:00"}
    parsed = parse_annotation(annotation(**both), config)
    assert parsed.created_at == datetime(2026, 1, 1, 8, tzinfo=UTC)
    assert parsed.created_at.tzinfo is UTC
    assert parsed.updated_at == datetime(2026, 1, 1, 9, tzinfo=UTC)
    assert parse_annotation(annotation(created_at=both["created_at"]), config).updated_at == parsed.created_at
    assert parse_annotation(annotation(), config).updated_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_ids(config: LabelConfig) -> None:
    assert parse_annotation(annotation(task={"id": 5, "data": {}}), config).task_id == "5"
    assert parse_annotation(annotation(), config, task_id="9").task_id == "9"
    assert parse_annotation(annotation(id=None, unique_id="abc"), config).id == "abc"


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"task": 2, "result": []},
        {"id": 1, "result": []},
        annotation(result={"taxonomy": []}),
        annotation(created_at="yesterday"),
        annotation(created_at="0001-01-01T00:00:00+05:00"),
        annotation(completed_by=[1]),
    ],
)
def test_what_cannot_be_an_annotation(data: Any, config: LabelConfig) -> None:
    with pytest.raises(BadRequestError):
        parse_annotation(data, config)


UNREADABLE: list[Any] = [
    region("A"),
    region([COMPLETE[0]]),
    region([[]]),
    region([[None]]),
    region(None),
    {"from_name": "media", "type": "taxonomy"},
    {"from_name": "media", "type": "taxonomy", "value": None},
    {"from_name": "media", "type": "taxonomy", "value": {}},
    {"from_name": "media", "type": "taxonomy", "value": "text"},
    {"from_name": "media", "type": "rating", "value": {"rating": 4}},
]
OF_NO_CONTROL: list[Any] = [
    "text",
    None,
    [region([["x"]])],
    {"value": {"taxonomy": [["x"]]}},
    {"from_name": 7, "value": {"taxonomy": [["x"]]}},
    {"from_name": None, "value": {"choices": ["x"]}},
]


@pytest.mark.parametrize("broken", UNREADABLE)
def test_a_region_that_cannot_be_read_costs_that_region_only(broken: Any, config: LabelConfig) -> None:
    parsed = parse_annotation(annotation(result=[broken, region([list(DUOFIX)])]), config)
    assert parsed.labels == {"media": (DUOFIX,)}
    (unreadable,) = parsed.unreadable
    assert str(unreadable).startswith('a region of "media" cannot be read: ')


@pytest.mark.parametrize("broken", OF_NO_CONTROL)
def test_a_region_of_no_control_is_said(broken: Any, config: LabelConfig) -> None:
    parsed = parse_annotation(annotation(result=[broken, region([list(DUOFIX)])]), config)
    assert parsed.labels == {"media": (DUOFIX,)}
    (unreadable,) = parsed.unreadable
    assert str(unreadable).startswith("a region cannot be read: it")


def test_a_path_that_cannot_be_read_costs_that_path_only(config: LabelConfig) -> None:
    parsed = parse_annotation(annotation(result=[region([list(DUOFIX), [], 7])]), config)
    assert (parsed.labels, len(parsed.unreadable)) == ({"media": (DUOFIX,)}, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"from_name": 7, "value": {"rating": 4}},
        {"id": "r"},
        {"from_name": "size", "value": "no mapping"},
        {"from_name": "size", "value": None},
        {"type": "relation", "direction": "right"},
        {"from_name": "box", "type": "rectanglelabels", "value": {"x": "nan", "rectanglelabels": [[]]}},
    ],
)
def test_what_other_controls_hold_is_ignored(other: Any, config: LabelConfig) -> None:
    parsed = parse_annotation(annotation(result=[other, region([list(DUOFIX)])]), config)
    assert (parsed.labels, parsed.unreadable, parsed.unknown) == ({"media": (DUOFIX,)}, (), ())


SIDE = """<View><Image name="image" value="$image"/><Taxonomy name="media" toName="image"><Choice value="A"/></Taxonomy>
    <Choices name="side" toName="image"><Choice value="x"/></Choices>{}</View>"""


@pytest.mark.parametrize(
    ("result", "foreign"),
    [
        (region([["A"]], name="category"), ("category",)),
        ({"from_name": "category", "value": {"choices": ["A"]}}, ("category",)),  # written by hand
        (region([["A"]]), ()),
        (region(["x"], "choices", "side"), ()),  # a side question
        (region([], name="category"), ()),
        ({"from_name": "note", "type": "textarea", "value": {"text": ["A"]}}, ()),
        ({"from_name": "former", "value": {"taxonomy": [["A"]]}}, ()),  # `labels_outside` counts it
    ],
)
def test_labels_of_a_control_that_the_config_never_had(result: Any, foreign: tuple[str, ...]) -> None:
    """They were made with another config, and nothing else says so."""
    config = replace(parse_label_config(SIDE.format("")), former_controls={"former": None})
    assert parse_annotation(annotation(result=[result]), config).foreign_controls == foreign


@pytest.mark.parametrize(
    ("results", "others"),
    [
        ([region([["A"]], name="category")], True),
        ([{"from_name": "former", "value": {"taxonomy": [["A"]]}}], True),
        ([region([["A"]], name="category"), region([["A"]])], False),
        ([region([["A"]], name="category"), region([["B"]])], False),  # a name that the taxonomy does not have
        ([region([["A"]], name="category"), region([])], False),  # the control was left empty by a person
        ([region([["A"]], name="category"), region(5)], False),
        ([region(["x"], "choices", "side")], False),
        ([], False),
    ],
)
def test_an_annotation_of_other_controls_only(results: list[Any], others: bool) -> None:
    config = replace(parse_label_config(SIDE.format("")), former_controls={"former": None})
    assert parse_annotation(annotation(result=results), config).is_of_other_controls is others


def test_a_repeater_makes_names_of_its_own() -> None:
    inner = '<Repeater on="$views"><Choices name="side_{{idx}}" toName="image"><Choice value="x"/></Choices></Repeater>'
    config = parse_label_config(SIDE.format(inner))
    parsed = parse_annotation(annotation(result=[region(["x"], "choices", "side_1")]), config)
    assert parsed.foreign_controls == ()


def test_a_cleared_control_is_empty_and_not_unreadable(config: LabelConfig) -> None:
    parsed = parse_annotation(annotation(result=[region([])]), config)
    assert (parsed.labels, parsed.unreadable) == ({}, ())


def test_a_choice_is_named_by_its_alias_or_its_value() -> None:
    xml = """<View><Image name="image" value="$image"/><Taxonomy name="media" toName="image">
        <Choice value="Warm" alias="W"><Choice value="Red" alias="W-01"/><Choice value="Yellow"/></Choice>
        </Taxonomy></View>"""
    config = parse_label_config(xml)
    for path in (["W", "W-01"], ["Warm", "Red"], ["W", "Red"], ["Warm", "W-01"]):
        parsed = parse_annotation(annotation(result=[region([path])]), config)
        assert (parsed.labels, parsed.unknown) == ({"media": (("W", "W-01"),)}, ())
    parsed = parse_annotation(annotation(result=[region([["Warm", "Yellow"], ["Warm", "Yellow", "Pale"]])]), config)
    assert parsed.labels == {"media": (("W", "Yellow"),)}
    assert parsed.unknown[0].known == ("W", "Yellow")


def test_newest() -> None:
    old, new = said("anna", "A", minutes=1), said("anna", "D", minutes=2)
    other = said("bert", "A", minutes=3)
    assert newest_of_each([new, other, old]) == (new, other)
    assert newest([new, other, old]) == other
    assert newest([]) is None
    corrected = said("anna", "A", minutes=5, created_at=old.created_at - timedelta(days=1))
    assert newest([new, corrected]) == corrected
    # saved in the same moment: Label Studio counts ids up
    ninth, tenth = said("anna", "A", id="9"), said("anna", "D", id="10")
    assert newest_of_each([tenth, ninth]) == (tenth,)
