"""The catalogue in Cosmos DB: documents of other programs, several containers, partition keys, installation."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest
from azure.cosmos import PartitionKey

from taxonomist.storage.azure.cosmos_connection import CosmosAccess, CosmosConnection
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.catalog import AnnotatorLabels, ImageDocument, LabelQuery, ProjectLabels
from taxonomist.storage.catalog.cosmos import CosmosCatalog
from taxonomist.storage.catalog.cosmos_install import FUNCTION, install
from taxonomist.taxonomy.errors import DamagedError, NotFoundError, StorageError
from tests.storage.catalog.test_cosmos_documents import OTHERS

slow = pytest.mark.slow


@pytest.fixture
def catalog(cosmos_access: CosmosAccess) -> Iterator[CosmosCatalog]:
    with CosmosCatalog(cosmos_access) as catalog:
        yield catalog


@pytest.fixture
def raw(cosmos_access: CosmosAccess) -> Iterator[Callable[..., Any]]:
    """Runs a coroutine function with the SDK's containers by name, as another program."""
    connection = CosmosConnection(cosmos_access, RetryPolicy())

    def run(work: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        async def with_containers() -> Any:
            return await work({container.name: container.proxy for container in await connection.containers()})

        return connection.run(with_containers)

    yield run
    connection.close()


@slow
def test_documents_of_others_are_found_and_keep_every_field(catalog: CosmosCatalog, raw: Callable[..., Any]) -> None:
    raw(lambda containers: containers["older"].create_item(OTHERS))
    catalog.put(ImageDocument(id="b"))
    changed = catalog.update(
        OTHERS["id"],
        lambda document: document.annotated(
            "4", [AnnotatorLabels(annotator_id=3, taxonomy=[["Bath"]])], has_review=False
        ).in_project("4", ProjectLabels(uri="u", accepted={"media": [["Bath"]]})),
    )
    stored = raw(lambda containers: containers["older"].read_item(OTHERS["id"], OTHERS["id"]))
    untouched = OTHERS.keys() - {"labels_with_taxonomy", "total_annotations", "has_review"}
    assert {name: stored[name] for name in untouched} == {name: OTHERS[name] for name in untouched}
    assert [entry["annotator_id"] for entry in stored["labels_with_taxonomy"]] == [706, 3]
    assert stored["labels_with_taxonomy"][0]["theirs"] == 1
    assert stored["taxonomist"]["labelled"] == ["4"]
    assert "taxonomist" not in changed.to_json()
    assert catalog.get(OTHERS["id"]) == changed
    assert [document.id for document in catalog.documents("4", labelled=True)] == [OTHERS["id"]]
    places = {found.document.id: found.container for found in catalog.find(LabelQuery())}
    assert places == {OTHERS["id"]: "older", "b": "images"}
    assert catalog.count() == 2


@slow
@pytest.mark.parametrize("containers", [("images",), ("images", "older")])
def test_among_many_new_documents_those_that_are_there_are_changed(
    cosmos_access: CosmosAccess, raw: Callable[..., Any], containers: tuple[str, ...]
) -> None:
    raw(lambda opened: opened[containers[-1]].create_item(OTHERS))
    new = [f"{number:03}" for number in range(60)]
    with CosmosCatalog(replace(cosmos_access, containers=containers)) as catalog:
        ids = [*new[:40], OTHERS["id"], *new[40:]]
        marked = dict.fromkeys(ids, lambda document: document.model_copy(update={"sortout": "Seen"}))
        assert catalog.update_many(marked) == 61
        assert catalog.count() == 61
        assert catalog.update_many(dict.fromkeys(["x", "y", *new], lambda _: None)) == 0
        assert catalog.count() == 61
    stored = raw(lambda opened: opened[containers[-1]].read_item(OTHERS["id"], OTHERS["id"]))
    assert stored["labels_with_taxonomy"] == OTHERS["labels_with_taxonomy"]
    assert stored["sortout"] == "Seen"


@slow
def test_documents_come_in_order_over_containers(catalog: CosmosCatalog, raw: Callable[..., Any]) -> None:
    async def fill(containers: dict[str, Any]) -> None:
        for number in range(30):
            await containers["older" if number % 3 else "images"].create_item({"id": f"{number:02}"})
        await containers["older"].create_item({"id": "00", "sortout": "a second one"})

    raw(fill)
    found = list(catalog.documents())
    assert [document.id for document in found] == [f"{number:02}" for number in range(30)]
    assert found[0].sortout is None
    assert catalog.get("00") == found[0]


@slow
def test_one_odd_document_does_not_hide_the_others(
    catalog: CosmosCatalog, raw: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def fill(containers: dict[str, Any]) -> None:
        await containers["images"].create_item({"id": "a", "resolution_width": "wide"})
        await containers["images"].create_item({"id": "b"})

    raw(fill)
    assert [document.id for document in catalog.documents()] == ["b"]
    assert [found.document.id for found in catalog.find(LabelQuery())] == ["b"]
    assert "document a in Cosmos DB cannot be read: resolution_width" in caplog.text
    with pytest.raises(DamagedError):
        catalog.update("a", lambda document: document.model_copy(update={"sortout": "Keep"}))


@slow
def test_containers_may_be_spread_by_another_field(cosmos_access: CosmosAccess) -> None:
    access = replace(cosmos_access, containers=("spread",))
    connection = CosmosConnection(access, RetryPolicy())

    async def make() -> None:
        database = (await connection.client()).get_database_client(access.database)
        container = await database.create_container("spread", partition_key=PartitionKey(path="/part/of"))
        await container.create_item({"id": "theirs", "part": {"of": "x"}, "sortout": "Keep"})

    connection.run(make)
    connection.close()
    assert "container spread: exists" in install(access)
    with CosmosCatalog(access) as catalog:
        assert catalog.update("ours", lambda document: document).id == "ours"
        first = catalog.update("theirs", lambda document: document.model_copy(update={"file_hash": "1"}))
        second = catalog.put(first.model_copy(update={"sortout": "Drop"}), if_match=first.etag)
        assert catalog.get_many(["theirs", "ours", "absent"]).keys() == {"theirs", "ours"}
        assert catalog.get("theirs") == second
        assert [found.document.id for found in catalog.find(LabelQuery(sortout=("Drop",)))] == ["theirs"]
        with pytest.raises(StorageError, match="/part/of"):
            catalog.update("theirs", lambda document: document.model_copy(update={"part": {"of": "y"}}))


@slow
def test_a_lost_race_is_merged(catalog: CosmosCatalog, raw: Callable[..., Any]) -> None:
    catalog.put(ImageDocument(id="a", sortout="Keep"))
    calls: list[str | None] = []

    async def interfere(container: Any) -> None:
        stored = await container.read_item("a", "a")
        await container.replace_item("a", {**stored, "theirs": len(calls), "sortout": "Drop"})

    def change(document: ImageDocument) -> ImageDocument:
        calls.append(document.sortout)
        if len(calls) < 3:
            other = CosmosConnection(catalog._connection.access, RetryPolicy())

            async def work() -> None:
                await interfere((await other.containers())[0].proxy)

            other.run(work)
            other.close()
        return document.model_copy(update={"file_hash": "1"})

    written = catalog.update("a", change)
    assert calls == ["Keep", "Drop", "Drop"]
    assert (written.file_hash, written.sortout, (written.model_extra or {})["theirs"]) == ("1", "Drop", 2)


@slow
def test_ids_that_cosmos_cannot_have(catalog: CosmosCatalog) -> None:
    assert catalog.get("a/b") is None
    assert catalog.get("") is None
    with pytest.raises(StorageError, match="not a valid id"):
        catalog.put(ImageDocument(id="a?b"))
    for id in ("with space", "Ä-ü", "100%", "a+b"):
        catalog.put(ImageDocument(id=id))
        assert catalog.get(id) is not None


@slow
def test_work_is_bounded(catalog: CosmosCatalog) -> None:
    running, most = 0, 0
    read = catalog._items._read

    async def counted(*arguments: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.005)
            return await read(*arguments)
        finally:
            running -= 1

    catalog._items._read = counted  # type: ignore[method-assign, assignment]
    catalog.get_many(f"{number}" for number in range(200))
    assert most == 32  # 16 documents in two containers each


@slow
def test_an_error_about_missing_containers_names_the_command_that_makes_them(cosmos_access: CosmosAccess) -> None:
    for access in (replace(cosmos_access, database="none"), replace(cosmos_access, containers=("images", "none"))):
        with CosmosCatalog(access) as catalog, pytest.raises(NotFoundError, match="taxonomist cosmos install"):
            catalog.get("a")


@slow
def test_a_wrong_key_fails_at_once_and_the_error_does_not_show_it(cosmos_access: CosmosAccess) -> None:
    access = replace(cosmos_access, key="d3Jvbmcga2V5")
    for work in (lambda: CosmosCatalog(access).get("a"), lambda: install(access)):
        with pytest.raises(StorageError, match="access is refused") as caught:
            work()
        assert "d3Jvbmcga2V5" not in str(caught.value)


@slow
def test_installing_again_changes_nothing_and_mends_the_function(
    cosmos_access: CosmosAccess, catalog: CosmosCatalog, raw: Callable[..., Any]
) -> None:
    assert all(line.endswith(": exists") for line in install(cosmos_access))
    old = {"id": FUNCTION, "body": f"function {FUNCTION}() {{ return []; }}"}
    raw(lambda containers: containers["older"].scripts.replace_user_defined_function(FUNCTION, old))
    document = ImageDocument.model_validate(OTHERS)
    raw(lambda containers: containers["older"].create_item(OTHERS))
    query = LabelQuery(include=("Plates",))
    assert list(catalog.find(query)) == []
    assert [line for line in install(cosmos_access) if not line.endswith(": exists")] == [
        f"function {FUNCTION} in older: updated"
    ]
    assert [found.document.id for found in catalog.find(query)] == [document.id]


@slow
def test_the_query_of_the_thesis_works(catalog: CosmosCatalog, raw: Callable[..., Any]) -> None:
    sql = """SELECT c.id, udf.filterDocumentsByLabels(c.id, c.labels_with_taxonomy, ['Plates'], ['Door']) as Annotations
        FROM c WHERE c.is_blurred = false
        AND ARRAY_LENGTH(udf.filterDocumentsByLabels(c.id, c.labels_with_taxonomy, ['Plates'], ['Door'])) > 0"""

    async def ask(containers: dict[str, Any]) -> list[Any]:
        await containers["images"].create_item(OTHERS)
        await containers["images"].create_item({"id": "b", "is_blurred": False})
        return [item async for item in containers["images"].query_items(sql)]

    found = raw(ask)
    assert found == [{"id": OTHERS["id"], "Annotations": [{"annotator_id": 706, "taxonomy": ["Bath", "Plates"]}]}]


@slow
def test_without_the_function_the_error_says_what_to_run(catalog: CosmosCatalog, raw: Callable[..., Any]) -> None:
    async def drop(containers: dict[str, Any]) -> None:
        await containers["images"].create_item(OTHERS)
        await containers["images"].scripts.delete_user_defined_function(FUNCTION)

    raw(drop)
    with pytest.raises(StorageError, match="taxonomist cosmos install"):
        list(catalog.find(LabelQuery(include=("A",))))


@slow
def test_a_closed_catalogue_opens_again(catalog: CosmosCatalog) -> None:
    catalog.put(ImageDocument(id="a"))
    catalog.close()
    assert catalog.get("a") is not None


FORK = """
import os, sys
from taxonomist.storage.azure.cosmos_connection import CosmosAccess
from taxonomist.storage.catalog.cosmos import CosmosCatalog

catalog = CosmosCatalog(CosmosAccess(sys.argv[1], sys.argv[2], sys.argv[3], ("images",)))
same = lambda document: document
catalog.update("parent", same)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    catalog.update("after", same)
else:
    catalog.update("child", same)
print(catalog.count())
"""


@slow
def test_a_forked_child_has_a_connection_of_its_own(cosmos_access: CosmosAccess) -> None:
    access = cosmos_access
    arguments = [access.endpoint, str(access.key), access.database]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (["2", "3"], "", 0)
