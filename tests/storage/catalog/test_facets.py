"""What images are counted and filtered by, in both catalogues."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxonomist.storage.catalog import Catalog, Facet, ImageDocument, ProjectLabels, SqliteCatalog
from taxonomist.storage.catalog.facets import facets_of
from taxonomist.storage.catalog.sqlite import _save
from taxonomist.storage.sqlite import Database
from tests.storage.catalog.test_catalog import catalog, sqlite

__all__ = ["catalog", "sqlite"]

PROJECT = "4 @home"


def image(id: str, *paths: list[str], **fields: object) -> ImageDocument:
    labels = ProjectLabels.model_validate({"uri": f"/{id}", "accepted": {"media": list(paths)}, **fields})
    return ImageDocument(id=id).in_project(PROJECT, labels)


def ids(catalog: Catalog, *facets: Facet, after: str = "", limit: int = 60) -> list[str]:
    return [document.id for document in catalog.page(PROJECT, facets, after=after, limit=limit)]


def test_images_are_counted_by_node_and_filtered(catalog: Catalog) -> None:
    catalog.put(image("a", ["Möbel", 'Bett "1"'], group="p1"))
    catalog.put(image("b", ["Möbel", "Tisch"], ["Lampe"], group="p1"))
    catalog.put(image("c", reason="no_agreement", updated_at=datetime(2026, 3, 1, tzinfo=UTC)))
    catalog.put(image("d", reason="no_agreement", updated_at=datetime(2026, 1, 1, tzinfo=UTC), group="p2"))
    catalog.put(image("e"))
    catalog.put(ImageDocument(id="f").in_project("other", ProjectLabels(uri="/f", accepted={"media": [["Lampe"]]})))
    assert catalog.count_nodes(PROJECT) == {
        ("media", ("Möbel",)): 2,
        ("media", ("Möbel", 'Bett "1"')): 1,
        ("media", ("Möbel", "Tisch")): 1,
        ("media", ("Lampe",)): 1,
    }
    assert catalog.count_nodes("nobody") == {}
    assert catalog.count_states("nobody") == {}
    assert catalog.count_states(PROJECT) == {"labelled": 2, "no_agreement": 2, "not_annotated": 1}
    disagreement, node = Facet("state", ("no_agreement",)), Facet("node", ("media", "Möbel"))
    assert ids(catalog) == ["a", "b", "c", "d", "e"]
    assert ids(catalog, limit=2) == ["a", "b"]
    assert ids(catalog, after="b", limit=2) == ["c", "d"]
    assert ids(catalog, node, Facet("product", ("p1",))) == ["a", "b"]
    assert ids(catalog, node, Facet("state", ("labelled",)), after="a") == ["b"]
    assert ids(catalog, disagreement) == ["c", "d"]
    assert ids(catalog, disagreement, Facet("product", ("p2",))) == ["d"]
    assert ids(catalog, Facet("state", ("not_annotated",))) == ["e"]
    assert catalog.oldest(PROJECT, disagreement) == datetime(2026, 1, 1, tzinfo=UTC)
    assert catalog.oldest(PROJECT, Facet("state", ("skipped",))) is None


def test_counts_follow_each_change(sqlite: SqliteCatalog) -> None:
    sqlite.put(image("a", ["A", "B"]))
    sqlite.put(image("b", ["A"]))
    sqlite.put(image("a", ["A", "C"]))
    assert sqlite.count_nodes(PROJECT) == {("media", ("A",)): 2, ("media", ("A", "C")): 1}
    sqlite.leave_project(PROJECT, ["b"])
    sqlite.delete(["a"])
    assert sqlite.count_nodes(PROJECT) == {}
    assert ids(sqlite) == ids(sqlite, Facet("node", ("media", "A"))) == []


def test_a_write_takes_as_long_with_many_documents_as_with_few(sqlite: SqliteCatalog) -> None:
    def steps(id: str) -> int:
        """Return the steps of SQLite's machine for a write, in tens."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        with sqlite._database.write() as connection:
            connection.set_progress_handler(step, 10)
            try:
                _save(connection, image(id, ["A", "B"], group="p"))
            finally:
                connection.set_progress_handler(None, 0)
        return count

    steps("a")
    few = steps("b")
    sqlite.update_many({f"c{n}": lambda _, n=n: image(f"c{n}", ["A", "B"], group="p") for n in range(300)})  # type: ignore[misc]
    assert steps("d") < 1.5 * few


def test_a_file_of_an_earlier_release_and_damaged_documents(tmp_path: Path) -> None:
    old = Database(
        tmp_path / "catalog.sqlite",
        "CREATE TABLE documents (id TEXT PRIMARY KEY, etag TEXT NOT NULL, body TEXT NOT NULL);\n"
        "CREATE TABLE memberships (project TEXT NOT NULL, image_id TEXT NOT NULL, labelled INTEGER NOT NULL,"
        " PRIMARY KEY (project, image_id)) WITHOUT ROWID",
    )
    bodies = {id: image(id, ["A"]).model_dump_json() for id in "ac"} | {"b": "{"}
    with old.write() as connection:
        for id, body in bodies.items():
            connection.execute("INSERT INTO documents VALUES (?, '', ?)", (id, body))
            connection.execute("INSERT INTO memberships VALUES (?, ?, 1)", (PROJECT, id))
    old.close()
    with SqliteCatalog(tmp_path / "catalog.sqlite") as catalog:
        assert catalog.count_nodes(PROJECT) == {("media", ("A",)): 2}
        assert ids(catalog, limit=2) == ["a", "c"]
        catalog.put(image("b", ["B"]))
        assert catalog.count_nodes(PROJECT) == {("media", ("A",)): 2, ("media", ("B",)): 1}


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
paths = st.lists(st.lists(names, min_size=1, max_size=3), max_size=3)


@given(accepted=st.dictionaries(names, paths, max_size=2), reason=st.sampled_from([None, "", "skipped"]), product=names)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_finds_the_facets_of_a_document(
    sqlite: SqliteCatalog, accepted: dict[str, list[list[str]]], reason: str | None, product: str
) -> None:
    labels = ProjectLabels(uri="/a", accepted=accepted, reason=reason, group=product)
    document = sqlite.put(ImageDocument(id="a").in_project(PROJECT, labels))
    with sqlite._database.read() as connection:
        found = connection.execute("SELECT facet, value FROM facets").fetchall()
    assert {tuple(row) for row in found} == {facet.row for facet in facets_of(document, PROJECT)}
