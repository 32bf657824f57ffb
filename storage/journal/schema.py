"""Tables of the journal.

`events` has the received events; the other tables are the state. Ids count within a source. For webhooks each row of
the state is a maximum over events (the newest form of an annotation, the latest deletion), so that the same events give
the same state in any order and with any repetition. What was read from the source as it is now (`read_after`) replaces
a row that has not changed since the reading began: `seq` is the event that changed the row last.

Times of the source are not believed when they lie in the future: `born` and `as_of` are `created_at` and `updated_at`,
or the time at which the event was received if that is earlier. So what arrives last wins over such a time.

Views compute from the state which annotations and tasks exist:

- a deletion applies to everything created before it, so a late update does not restore a deleted annotation, and an id
  that is used again later is a new annotation;
- the deletion of a task applies to the annotations that belong to it now, not to those that were moved to another task;
- a task with the same id and another image that was created after an annotation means that a deletion was missed;
- the annotations of a task with several images (`task_images`) belong to each of them.

`former_parts` has the part (test or train) of images that were forgotten, under a hash of their id; see `withdrawal`.

`dirty` has the images whose label is to be decided, `unknown_paths` the paths that labels of decided images name and
the taxonomy does not have. `set_aside` has what could not be processed, `kept_copies` what other files hold,
`draws` how labelled images were drawn, and which are to be labelled next.
"""

from taxonomist.storage.kept.copies import KEPT_COPIES
from taxonomist.storage.kept.draws import DRAWS
from taxonomist.storage.set_aside import SET_ASIDE

__all__ = ["SCHEMA", "STATE", "VERSION"]

VERSION = 2

STATE = """
CREATE TABLE IF NOT EXISTS annotations (
    project TEXT NOT NULL, source TEXT NOT NULL, annotation_id TEXT NOT NULL, task_id TEXT NOT NULL,
    image_id TEXT NOT NULL, uri TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    born TEXT NOT NULL, as_of TEXT NOT NULL, seq INTEGER NOT NULL, unique_id TEXT, data TEXT NOT NULL,
    PRIMARY KEY (project, source, annotation_id));
CREATE INDEX IF NOT EXISTS annotations_image ON annotations (project, image_id, source, annotation_id);
CREATE INDEX IF NOT EXISTS annotations_task ON annotations (project, source, task_id);
CREATE INDEX IF NOT EXISTS annotations_id ON annotations (project, annotation_id);
CREATE INDEX IF NOT EXISTS annotations_unique ON annotations (project, unique_id) WHERE unique_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS tasks (
    project TEXT NOT NULL, source TEXT NOT NULL, task_id TEXT NOT NULL, image_id TEXT NOT NULL, uri TEXT NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, born TEXT NOT NULL, as_of TEXT NOT NULL, seq INTEGER NOT NULL,
    data TEXT NOT NULL, images TEXT NOT NULL,
    PRIMARY KEY (project, source, task_id));
CREATE INDEX IF NOT EXISTS tasks_image ON tasks (project, image_id, source, task_id);
CREATE TABLE IF NOT EXISTS task_images (
    project TEXT NOT NULL, source TEXT NOT NULL, task_id TEXT NOT NULL, name TEXT NOT NULL, image_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    PRIMARY KEY (project, image_id, source, task_id, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS task_images_task ON task_images (project, source, task_id);
CREATE TABLE IF NOT EXISTS deletions (
    project TEXT NOT NULL, source TEXT NOT NULL, what TEXT NOT NULL, id TEXT NOT NULL, at TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (project, source, what, id)) WITHOUT ROWID"""

VIEWS = """
CREATE VIEW IF NOT EXISTS live_tasks AS
    SELECT * FROM tasks t WHERE NOT EXISTS (
        SELECT 1 FROM deletions d
        WHERE d.project = t.project AND d.source = t.source AND d.what = 'task' AND d.id = t.task_id
        AND d.at >= t.born);
CREATE VIEW IF NOT EXISTS live_annotations AS
    SELECT * FROM annotations a WHERE NOT EXISTS (
        SELECT 1 FROM deletions d
        WHERE d.project = a.project AND d.source = a.source AND d.what = 'annotation' AND d.id = a.annotation_id
        AND d.at >= a.born)
    AND NOT EXISTS (
        SELECT 1 FROM deletions d
        WHERE d.project = a.project AND d.source = a.source AND d.what = 'task' AND d.id = a.task_id
        AND d.at >= a.born)
    AND NOT EXISTS (
        SELECT 1 FROM tasks t
        WHERE t.project = a.project AND t.source = a.source AND t.task_id = a.task_id
        AND t.created_at > a.created_at AND t.image_id <> a.image_id);
CREATE VIEW IF NOT EXISTS image_tasks AS
    SELECT t.project, t.source, t.task_id, t.image_id, t.uri, t.created_at, t.updated_at, t.data, t.images
    FROM live_tasks t WHERE t.images = '{}'
    UNION ALL
    SELECT t.project, t.source, t.task_id, i.image_id, i.uri, t.created_at, t.updated_at, t.data, t.images
    FROM task_images i CROSS JOIN live_tasks t
    ON t.project = i.project AND t.source = i.source AND t.task_id = i.task_id;
CREATE VIEW IF NOT EXISTS image_annotations AS
    SELECT a.project, a.source, a.annotation_id, a.task_id, a.image_id, a.uri, a.created_at, a.updated_at, a.data,
        NULL AS task_data
    FROM live_annotations a WHERE NOT EXISTS (
        SELECT 1 FROM live_tasks t
        WHERE t.project = a.project AND t.source = a.source AND t.task_id = a.task_id AND t.images <> '{}')
    UNION ALL
    SELECT a.project, a.source, a.annotation_id, a.task_id, i.image_id, i.uri, a.created_at, a.updated_at, a.data,
        t.data
    FROM task_images i
    CROSS JOIN live_tasks t ON t.project = i.project AND t.source = i.source AND t.task_id = i.task_id
    CROSS JOIN live_annotations a ON a.project = i.project AND a.source = i.source AND a.task_id = i.task_id;
CREATE VIEW IF NOT EXISTS dirty_images AS
    SELECT project, image_id, seq,
        EXISTS (SELECT 1 FROM live_tasks t WHERE t.project = d.project AND t.image_id = d.image_id)
        OR EXISTS (
            SELECT 1 FROM live_annotations a WHERE a.project = d.project AND a.image_id = d.image_id AND NOT EXISTS (
                SELECT 1 FROM live_tasks t
                WHERE t.project = a.project AND t.source = a.source AND t.task_id = a.task_id AND t.images <> '{}'))
        OR EXISTS (
            SELECT 1 FROM task_images i CROSS JOIN live_tasks t
            ON t.project = i.project AND t.source = i.source AND t.task_id = i.task_id
            WHERE i.project = d.project AND i.image_id = d.image_id) AS present
    FROM dirty d"""

EVENTS = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, project TEXT NOT NULL, kind TEXT NOT NULL,
    received_at REAL NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_received ON events (received_at);
CREATE TABLE IF NOT EXISTS projects (project TEXT PRIMARY KEY, last_event_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folded (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL);
INSERT OR IGNORE INTO folded VALUES (1, 0);
CREATE TABLE IF NOT EXISTS former_parts (
    project TEXT NOT NULL, image TEXT NOT NULL, part TEXT NOT NULL, PRIMARY KEY (project, image)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dirty (
    project TEXT NOT NULL, image_id TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (project, image_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unknown_paths (
    project TEXT NOT NULL, image_id TEXT NOT NULL, control TEXT NOT NULL, path TEXT NOT NULL, labels INTEGER NOT NULL,
    PRIMARY KEY (project, image_id, control, path)) WITHOUT ROWID"""

SCHEMA = ";\n".join((EVENTS, STATE, VIEWS, SET_ASIDE, KEPT_COPIES, DRAWS))
