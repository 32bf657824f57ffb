"""What the images of a project are counted and filtered by: nodes, the state of the label, products."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes

__all__ = ["FACETS_SCHEMA", "LABELLED", "UNANNOTATED", "Facet", "facets_of", "node_of_value"]

LABELLED = "labelled"
UNANNOTATED = "not_annotated"
"""The state of an image for which no reason is stored."""


def _rows(documents: str) -> str:
    """Return the query for the facets of documents, a table with `id` and `body`: project, facet, value and id."""
    projects = f"""(SELECT d.id, p.key AS project, p.value AS labels,
        coalesce(nullif(json_extract(p.value, '$.group'), ''),
            nullif(json_extract(d.body, '$.servicereport_filename'), '')) AS product,
        EXISTS (SELECT 1 FROM json_each(p.value, '$.accepted') c WHERE json_array_length(c.value) > 0) AS labelled
        FROM {documents} d, json_each(CASE WHEN json_valid(d.body) THEN d.body ELSE '{{}}' END, '$.projects') p
        WHERE p.type = 'object')"""  # noqa: S608
    return f"""SELECT DISTINCT d.project, 'node', (SELECT json_group_array(name) FROM (SELECT c.key AS name UNION ALL
            SELECT s.value FROM json_each(path.value) s WHERE s.key <= step.key)), d.id
        FROM {projects} d, json_each(d.labels, '$.accepted') c, json_each(c.value) path, json_each(path.value) step
        UNION ALL SELECT project, 'state', CASE WHEN labelled THEN 'labelled'
            ELSE coalesce(nullif(json_extract(labels, '$.reason'), ''), 'not_annotated') END, id FROM {projects}
        UNION ALL SELECT project, 'product', product, id FROM {projects} WHERE product IS NOT NULL"""  # noqa: S608


# The database keeps the facets itself, so that each writer, also one of an earlier release, keeps them right. The rows
# of a document follow from its text alone. Images are not counted by product, since there are as many products.
_OF_NEW = _rows("(SELECT NEW.id AS id, NEW.body AS body)")
FACETS_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS facets (
    project TEXT NOT NULL, facet TEXT NOT NULL, value TEXT NOT NULL, image_id TEXT NOT NULL,
    PRIMARY KEY (project, facet, value, image_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS facets_image ON facets (image_id);
CREATE TABLE IF NOT EXISTS facet_counts (
    project TEXT NOT NULL, facet TEXT NOT NULL, value TEXT NOT NULL, images INTEGER NOT NULL,
    PRIMARY KEY (project, facet, value)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facets_filled (done INTEGER PRIMARY KEY);
CREATE TRIGGER IF NOT EXISTS facet_added AFTER INSERT ON facets WHEN NEW.facet <> 'product' BEGIN
    INSERT INTO facet_counts VALUES (NEW.project, NEW.facet, NEW.value, 1)
    ON CONFLICT DO UPDATE SET images = images + 1; END;
CREATE TRIGGER IF NOT EXISTS facet_removed AFTER DELETE ON facets WHEN OLD.facet <> 'product' BEGIN
    UPDATE facet_counts SET images = images - 1
    WHERE project = OLD.project AND facet = OLD.facet AND value = OLD.value; DELETE FROM facet_counts
    WHERE project = OLD.project AND facet = OLD.facet AND value = OLD.value AND images = 0; END;
CREATE TRIGGER IF NOT EXISTS facets_of_new AFTER INSERT ON documents BEGIN
    INSERT INTO facets {_OF_NEW}; END;
CREATE TRIGGER IF NOT EXISTS facets_of_changed AFTER UPDATE OF body ON documents BEGIN
    DELETE FROM facets WHERE image_id = NEW.id; INSERT INTO facets {_OF_NEW}; END;
CREATE TRIGGER IF NOT EXISTS facets_of_deleted AFTER DELETE ON documents BEGIN
    DELETE FROM facets WHERE image_id = OLD.id; END;
INSERT INTO facets SELECT * FROM ({_rows("documents")})
    WHERE NOT EXISTS (SELECT 1 FROM facets_filled);
INSERT OR IGNORE INTO facets_filled VALUES (1)"""  # noqa: S608


@dataclass(frozen=True)
class Facet:
    """A property of images: a node that an accepted label goes through, the state of the label, or the product.

    `value` of a node is its control and its path. The state is `LABELLED`, or the reason why there is no label.
    """

    name: Literal["node", "state", "product"]
    value: tuple[str, ...]

    @property
    def row(self) -> tuple[str, str]:
        """The facet as it is stored."""
        is_node = self.name == "node"
        return self.name, json.dumps(self.value, ensure_ascii=False, separators=(",", ":")) if is_node else self.value[
            0
        ]


def node_of_value(value: str) -> tuple[str, TaxonomyPath]:
    """Return control and path of the stored value of a node."""
    control, *path = json.loads(value)
    return control, tuple(path)


def facets_of(document: ImageDocument, project: str) -> Iterator[Facet]:
    """Yield what a document of a project is counted by."""
    labels = document.projects[project]
    accepted = {(control, tuple(path)) for control, paths in labels.accepted.items() for path in paths}
    for node in {(control, *node) for control, path in accepted for node in prefixes(path)}:
        yield Facet("node", node)
    yield Facet("state", (LABELLED if labels.labelled else labels.reason or UNANNOTATED,))
    if product := document.product(project):
        yield Facet("product", (product,))
