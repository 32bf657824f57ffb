"""Tables of the journal.

`events` has the received events; the other tables are the state. Each row of the state is a maximum over events (the
newest form of an annotation, the latest deletion), so that the same events give the same state in any order and with
any repetition. Views compute from the state which annotations and tasks exist:

- a deletion applies to everything created before it, so a late update does not restore a deleted annotation, and an id
  that is used again later is a new annotation;
- a task with the same id and another image that was created after an annotation means that a deletion was missed.
"""

__all__ = ["SCHEMA"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, project TEXT NOT NULL, kind TEXT NOT NULL,
    received_at REAL NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_received ON events (received_at);
CREATE TABLE IF NOT EXISTS projects (
    project TEXT PRIMARY KEY, last_event_at REAL NOT NULL, clock TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folded (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL);
INSERT OR IGNORE INTO folded VALUES (1, 0);
CREATE TABLE IF NOT EXISTS annotations (
    project TEXT NOT NULL, annotation_id TEXT NOT NULL, task_id TEXT NOT NULL, image_id TEXT NOT NULL,
    uri TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (project, annotation_id));
CREATE INDEX IF NOT EXISTS annotations_image ON annotations (project, image_id, annotation_id);
CREATE INDEX IF NOT EXISTS annotations_task ON annotations (project, task_id);
CREATE TABLE IF NOT EXISTS tasks (
    project TEXT NOT NULL, task_id TEXT NOT NULL, image_id TEXT NOT NULL, uri TEXT NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (project, task_id));
CREATE INDEX IF NOT EXISTS tasks_image ON tasks (project, image_id, task_id);
CREATE TABLE IF NOT EXISTS deletions (
    project TEXT NOT NULL, what TEXT NOT NULL, id TEXT NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (project, what, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dirty (
    project TEXT NOT NULL, image_id TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (project, image_id)) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS live_tasks AS
    SELECT * FROM tasks t WHERE NOT EXISTS (
        SELECT 1 FROM deletions d
        WHERE d.project = t.project AND d.what = 'task' AND d.id = t.task_id AND d.at >= t.created_at);
CREATE VIEW IF NOT EXISTS live_annotations AS
    SELECT * FROM annotations a WHERE NOT EXISTS (
        SELECT 1 FROM deletions d
        WHERE d.project = a.project AND d.what = 'annotation' AND d.id = a.annotation_id AND d.at >= a.created_at)
    AND NOT EXISTS (
        SELECT 1 FROM deletions d
        WHERE d.project = a.project AND d.what = 'task' AND d.id = a.task_id AND d.at >= a.created_at)
    AND NOT EXISTS (
        SELECT 1 FROM tasks t
        WHERE t.project = a.project AND t.task_id = a.task_id AND t.created_at > a.created_at
        AND t.image_id <> a.image_id);
CREATE VIEW IF NOT EXISTS dirty_images AS
    SELECT project, image_id, seq,
        EXISTS (SELECT 1 FROM live_tasks t WHERE t.project = d.project AND t.image_id = d.image_id)
        OR EXISTS (SELECT 1 FROM live_annotations a WHERE a.project = d.project AND a.image_id = d.image_id) AS present
    FROM dirty d"""
