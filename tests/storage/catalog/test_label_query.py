"""The label query in Python, SQLite and Cosmos DB: one answer for every document, however it is malformed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from taxonomist.storage.azure.cosmos_connection import CosmosAccess, CosmosConnection
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.catalog import ImageDocument, LabelQuery, SqliteCatalog
from taxonomist.storage.catalog.cosmos import CosmosCatalog
from taxonomist.storage.catalog.cosmos_install import install
from taxonomist.storage.catalog.label_query import cosmos_where, explain, matches
from taxonomist.storage.sqlite import Database

ANY = LabelQuery(blurred=None, private=None)
LABELLED: dict[str, Any] = {
    "id": "a",
    "labels_with_taxonomy": [
        {"annotator_id": 706, "taxonomy": ["Bath", "Plates", "Twin"]},  # flat, as listing 4.3 prints it
        {"annotator_id": 709, "taxonomy": [["Bath", "Clean"], ["Kitchen", "Sink"]]},
    ],
    "total_annotations": 2,
    "has_review": True,
    "sortout": "Keep",
    "sortout_testset": True,
    "is_blurred": False,
}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (LabelQuery(), None),
        (replace(ANY, include=("Twin",)), None),
        (replace(ANY, include=("nothing", "Sink")), None),
        (replace(ANY, include=("bath",)), "has none of the labels to include"),
        (replace(ANY, include=("Bath",), exclude=("Sink",)), "has a label to exclude"),
        (replace(ANY, exclude=("Door",)), None),
        (replace(ANY, min_annotators=2), None),
        (replace(ANY, min_annotators=3), "has too few annotators"),
        (replace(ANY, reviewed=True), None),
        (replace(ANY, reviewed=False), "is reviewed"),
        (replace(ANY, labelled=True), None),
        (replace(ANY, labelled=False), "has labels"),
        (replace(ANY, blurred=True), "is not blurred"),
        (replace(ANY, sortout=("Drop", "Keep")), None),
        (replace(ANY, sortout=("Drop",)), "has another sort-out state"),
        (replace(ANY, testset=True), None),
        (replace(ANY, testset=False), "is in the test set"),
        (replace(ANY, private=True), "shows no faces or personal data"),
        (replace(ANY, project="4"), "is not in the project"),
    ],
)
def test_the_reason_for_leaving_a_document_out(query: LabelQuery, reason: str | None) -> None:
    assert explain(LABELLED, query) == reason
    assert matches(LABELLED, query) is (reason is None)


@pytest.mark.parametrize("document", [{}, {"labels_with_taxonomy": None}, {"labels_with_taxonomy": []}])
def test_without_labels_nothing_is_included_and_nothing_excluded(document: dict[str, Any]) -> None:
    assert matches(document, LabelQuery(exclude=("A",), labelled=False, reviewed=False, testset=False))
    assert not matches(document, LabelQuery(include=("A",)))


def test_the_first_reason_counts() -> None:
    document = {"is_blurred": True, "face_rects": [[1, 2, 3, 4]]}
    assert explain(document, LabelQuery(include=("A",))) == "shows faces or personal data"
    assert explain(document, LabelQuery(include=("A",), private=None)) == "is blurred"


@pytest.mark.parametrize("field", ["face_rects", "pii_entities"])
@pytest.mark.parametrize("value", [[[1, 2, 3, 4]], {"name": "Ada"}, {}, "Ada", True, 0, 1])
def test_what_may_be_private_is(field: str, value: object) -> None:
    assert not matches({field: value}, LabelQuery())
    assert ImageDocument.model_validate({"id": "a", field: value}).private


@pytest.mark.parametrize("value", [None, [], "", False])
def test_what_says_no_is_not_private(value: object) -> None:
    assert matches({"face_rects": value, "pii_entities": value}, LabelQuery())
    assert not ImageDocument(id="a", face_rects=value, pii_entities=value).private


# Documents as anybody may have written them.

names = st.sampled_from(["A", "B", "Ä", "a", ""])
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(["", "A", "true", "Keep"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(good, good, junk)


paths = mostly(st.lists(mostly(names), max_size=3))
entries = mostly(
    st.fixed_dictionaries(
        {"annotator_id": mostly(st.integers(1, 9))}, optional={"taxonomy": paths | mostly(st.lists(paths, max_size=2))}
    )
)
membership = st.dictionaries(st.sampled_from(["4", "5"]), st.just({"uri": "a.jpg"}), max_size=2)
documents = st.fixed_dictionaries(
    {},
    optional={
        "labels_with_taxonomy": mostly(st.lists(entries, max_size=3)),
        "total_annotations": mostly(st.integers(0, 4)),
        "has_review": mostly(st.booleans()),
        "is_blurred": mostly(st.booleans()),
        "sortout": mostly(st.sampled_from(["Keep", "Drop"])),
        "sortout_testset": mostly(st.booleans()),
        "face_rects": mostly(st.just([])),
        "pii_entities": mostly(st.none()),
        "projects": mostly(membership),
    },
)
yes_no_any = st.sampled_from([None, True, False])
some_names = st.lists(names, max_size=2).map(tuple)
queries = st.builds(
    LabelQuery,
    include=some_names,
    exclude=some_names,
    min_annotators=st.sampled_from([0, 0, 1, 2]),
    reviewed=yes_no_any,
    labelled=yes_no_any,
    blurred=yes_no_any,
    sortout=st.sampled_from([(), (), ("Keep",), ("Keep", "Drop")]),
    testset=yes_no_any,
    private=yes_no_any,
    project=st.sampled_from([None, None, "4"]),
)
# One demand a query as well: of many at once hardly a document fulfils all.
named = st.lists(names, min_size=1, max_size=2).map(tuple)
single = st.one_of(
    named.map(lambda some: replace(ANY, include=some)),
    named.map(lambda some: replace(ANY, exclude=some)),
    *(
        queries.map(lambda query, name=name: replace(ANY, **{name: getattr(query, name)}))  # type: ignore[misc]
        for name in LabelQuery.__dataclass_fields__
        if name not in {"include", "exclude"}
    ),
)


def numbered(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{number:04}": {**document, "id": f"{number:04}"} for number, document in enumerate(found)}


def wanted(stored: dict[str, dict[str, Any]], query: LabelQuery) -> list[str]:
    return [id for id, document in stored.items() if matches(document, query)]


def readable(stored: dict[str, dict[str, Any]], ids: list[str]) -> list[str]:
    def is_readable(document: dict[str, Any]) -> bool:
        try:
            return bool(ImageDocument.model_validate(document))
        except ValidationError:
            return False

    return [id for id in ids if is_readable(stored[id])]


def projects_of(document: dict[str, Any]) -> list[str]:
    projects = document.get("projects")
    return list(projects) if isinstance(projects, dict) else []


@settings(max_examples=25, deadline=None)
@given(
    found=st.lists(documents, min_size=1, max_size=20), label_queries=st.lists(queries | single, min_size=1, max_size=8)
)
def test_sqlite_finds_what_matches(found: list[dict[str, Any]], label_queries: list[LabelQuery]) -> None:
    stored = numbered(found)
    with TemporaryDirectory() as folder, SqliteCatalog(Path(folder) / "catalog.sqlite") as catalog:
        catalog.count()  # makes the tables
        database = Database(Path(folder) / "catalog.sqlite", "SELECT 1")
        with database.write() as connection:
            for id, document in stored.items():
                connection.execute("INSERT INTO documents VALUES (?, 'x', ?)", (id, json.dumps(document)))
                for project in projects_of(document):
                    connection.execute("INSERT INTO memberships VALUES (?, ?, 0)", (project, id))
        database.close()
        for query in label_queries:
            assert [found_image.document.id for found_image in catalog.find(query)] == readable(
                stored, wanted(stored, query)
            )


@pytest.fixture
def fill(cosmos_access: CosmosAccess) -> Iterator[Callable[[dict[str, dict[str, Any]]], tuple[CosmosAccess, Ask]]]:
    """Writes documents into a new container; returns its access, and a function from a condition to the ids."""
    opened: list[CosmosConnection] = []

    def make(stored: dict[str, dict[str, Any]]) -> tuple[CosmosAccess, Ask]:
        access = replace(cosmos_access, containers=(f"drawn{len(opened)}",))
        install(access)
        opened.append(CosmosConnection(access, RetryPolicy()))
        connection = opened[-1]

        async def write() -> None:
            (container,) = await connection.containers()
            for document in stored.values():
                body = {**document, "taxonomist": {"projects": projects_of(document), "labelled": []}}
                await container.proxy.upsert_item(body)

        connection.run(write)

        def ask(query: LabelQuery) -> list[str]:
            where, values = cosmos_where(query)
            sql = f"SELECT VALUE c.id FROM c WHERE {where}"

            async def run() -> list[str]:
                (container,) = await connection.containers()
                parameters = [{"name": name, "value": value} for name, value in values.items()]
                return [str(id) async for id in container.proxy.query_items(sql, parameters=parameters)]

            return sorted(connection.run(run))

        return access, ask

    yield make
    for connection in opened:
        connection.close()


Ask = Callable[[LabelQuery], list[str]]


@pytest.mark.slow
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.generate],  # shrinking would write thousands of documents
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    found=st.lists(documents, min_size=80, max_size=120),
    label_queries=st.lists(queries | single, min_size=20, max_size=25),
)
def test_cosmos_finds_what_matches(
    fill: Callable[..., tuple[CosmosAccess, Ask]], found: list[dict[str, Any]], label_queries: list[LabelQuery]
) -> None:
    stored = numbered(found)
    access, ask = fill(stored)
    with CosmosCatalog(access) as catalog:
        for query in label_queries:
            expected = wanted(stored, query)
            assert ask(query) == expected, query
            assert [found_image.document.id for found_image in catalog.find(query)] == readable(stored, expected)
