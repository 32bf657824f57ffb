"""A typed client of Label Studio's API: version and user, projects, ML backends, tabs, webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taxonomist.backend.label_studio.annotations import AnnotationCalls
from taxonomist.backend.label_studio.connection import project_number
from taxonomist.backend.label_studio.failures import refusal, translated
from taxonomist.backend.label_studio.records import MlBackend, Project, Webhook
from taxonomist.taxonomy.errors import LabelStudioError

if TYPE_CHECKING:
    from label_studio_sdk.core.request_options import RequestOptions

_ONCE: RequestOptions = {"max_retries": 0}  # for calls that must not be repeated


class LabelStudioClient(AnnotationCalls):
    """The API of one Label Studio for one user. Every method raises `LabelStudioError`, whose hint says what to do."""

    # Version, user and projects

    def version(self) -> str:
        """Return the release of Label Studio, such as `1.23.2`. Needs no valid token."""
        doing = "ask for the version"
        with translated(self.url, doing):
            answer = self._http.get(f"{self.url}/api/version", auth=None)
            try:
                body = answer.json()
            except ValueError:
                body = answer.text
            if not isinstance(body, Mapping) or not isinstance(body.get("release"), str):
                raise refusal(self.url, doing, answer.status_code, "")
            return str(body["release"])

    def user(self) -> str:
        """Return the e-mail address of the token's user; the cheapest check of the token."""
        with translated(self.url, "use the token"):
            me = self._sdk.users.whoami()
            return str(me.email or me.username)

    def project(self, project: str) -> Project:
        """Return a project."""
        with translated(self.url, f"read project {project}"):
            found = self._sdk.projects.get(project_number(project))
            if None in (found.created_at, found.task_number, found.total_annotations_number):
                raise LabelStudioError(
                    f"Label Studio at {self.url} did not say when project {project} was created, or what it counts.",
                    hint="Nothing is concluded from such an answer. Look at what stands between us and Label Studio.",
                )
            return Project(
                id=str(found.id),
                title=found.title or "",
                label_config=found.label_config or "",
                created_at=found.created_at or datetime.fromtimestamp(0, UTC),
                show_collab_predictions=bool(found.show_collab_predictions),
                model_version=found.model_version or "",
                sampling=str(found.sampling or ""),
                tasks=found.task_number or 0,
                annotated_tasks=found.num_tasks_with_annotations or 0,
                annotations=found.total_annotations_number or 0,
                skipped=found.skipped_annotations_number or 0,
            )

    def update_project(
        self,
        project: str,
        *,
        label_config: str | None = None,
        show_collab_predictions: bool | None = None,
        model_version: str | None = None,
        sampling: str | None = None,
    ) -> None:
        """Change the given fields; None leaves a field unchanged.

        Label Studio refuses a `model_version` that is neither the title of an ML backend of the project nor the version
        of a stored prediction.
        """
        changes = {
            "label_config": label_config,
            "show_collab_predictions": show_collab_predictions,
            "model_version": model_version,
            "sampling": sampling,
        }
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        if given:
            with translated(self.url, f"change {', '.join(given)} of project {project}"):
                self._sdk.projects.update(project_number(project), **given)

    def validate_config(self, project: str, label_config: str) -> None:
        """Let Label Studio validate a labelling config for the project; the error has its reason."""
        with translated(self.url, f"use the labelling config in project {project}"):
            self._sdk.projects.validate_label_config(
                project_number(project), label_config=label_config, request_options=_ONCE
            )

    # ML backends

    def ml_backends(self, project: str) -> list[MlBackend]:
        """Return the project's ML backends, oldest first; only the first predicts. Label Studio checks each of them."""
        with translated(self.url, f"list the ML backends of project {project}"):
            rows = [_ml_backend(row) for row in self._sdk.ml.list(project=project_number(project))]
            return sorted(rows, key=lambda row: row.id)

    def create_ml_backend(
        self, project: str, url: str, title: str, *, username: str | None = None, password: str | None = None
    ) -> MlBackend:
        """Register an ML backend and return it; Label Studio calls its /health and /setup before it answers."""
        with translated(self.url, f"register the backend {url} in project {project}"):
            row = self._sdk.ml.create(
                project=project_number(project),
                url=url,
                title=title,
                request_options=_ONCE,
                **_auth(username, password),
            )
            return _ml_backend(row)

    def update_ml_backend(
        self, backend: MlBackend, *, url: str, title: str, username: str | None = None, password: str | None = None
    ) -> MlBackend:
        """Change an ML backend and return it. The request needs all fields.

        Label Studio calls /health and /setup with exactly the fields of the request: without the address or the project
        it answers 500, without the password it calls without one.
        """
        with translated(self.url, f"change the ML backend {backend.id} of project {backend.project}"):
            row = self._sdk.ml.update(
                backend.id,
                project=project_number(backend.project),
                url=url,
                title=title,
                request_options=_ONCE,
                **_auth(username, password),
            )
            return _ml_backend(row)

    def delete_ml_backend(self, backend: MlBackend) -> None:
        """Remove an ML backend from its project; the predictions that it made stay."""
        with translated(self.url, f"remove the ML backend {backend.id} of project {backend.project}"):
            self._sdk.ml.delete(backend.id, request_options=_ONCE)

    # Tabs of the Data Manager

    def show_tasks(self, project: str, title: str, task_ids: Sequence[int]) -> None:
        """Let the tab with that title show these tasks; it is made where it is missing. No task is changed."""
        items = [
            {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": task} for task in task_ids
        ]
        data: Any = {"title": title, "filters": {"conjunction": "or", "items": items}}
        with translated(self.url, f"make the tab {title!r} in project {project}"):
            number = project_number(project)
            earlier = [tab for tab in self._sdk.views.list(project=number) if (tab.data or {}).get("title") == title]
            self._sdk.views.create(project=number, data=data, request_options=_ONCE)
            for tab in earlier:
                self._sdk.views.delete(str(tab.id), request_options=_ONCE)

    # Webhooks

    def webhooks(self, project: str) -> list[Webhook]:
        """Return the project's own webhooks, oldest first."""
        with translated(self.url, f"list the webhooks of project {project}"):
            rows = [_webhook(row) for row in self._sdk.webhooks.list(project=project)]
            return sorted(rows, key=lambda row: row.id)

    def create_webhook(self, project: str, url: str, headers: Mapping[str, str]) -> Webhook:
        """Create a webhook for all actions, with payload, and return it."""
        with translated(self.url, f"create the webhook {url} in project {project}"):
            row = self._sdk.webhooks.create(
                project=project_number(project),
                url=url,
                headers=dict(headers),
                is_active=True,
                send_for_all_actions=True,
                send_payload=True,
                request_options=_ONCE,
            )
            return _webhook(row)

    def update_webhook(
        self,
        webhook: Webhook,
        *,
        url: str,
        headers: Mapping[str, str] | None = None,
        is_active: bool | None = None,
        everything: bool | None = None,
    ) -> Webhook:
        """Change the given fields and return the webhook; `everything` means all actions, with payload.

        Label Studio then checks the address, also an unchanged one, and drops a choice of single actions.
        """
        changes = {
            "headers": None if headers is None else dict(headers),
            "is_active": is_active,
            "send_for_all_actions": everything,
            "send_payload": everything,
        }
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        with translated(self.url, f"change the webhook {webhook.id}"):
            return _webhook(self._sdk.webhooks.update(webhook.id, url=url, **given))

    def delete_webhook(self, webhook: Webhook) -> None:
        """Remove a webhook."""
        with translated(self.url, f"remove the webhook {webhook.id}"):
            self._sdk.webhooks.delete(webhook.id, request_options=_ONCE)


def _auth(username: str | None, password: str | None) -> dict[str, Any]:
    if password is None:
        return {"auth_method": "NONE"}
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": username or "", "basic_auth_pass": password}


def _ml_backend(row: Any) -> MlBackend:
    return MlBackend(
        id=int(row.id),
        project=str(row.project),
        url=row.url or "",
        title=row.title or "",
        state=row.state or "",
        state_name=row.readable_state or "",
        error=row.error_message or "",
        model_version=row.model_version or "",
        auth_method=row.auth_method or "NONE",
        username=row.basic_auth_user or "",
    )


def _webhook(row: Any) -> Webhook:
    return Webhook(
        id=int(row.id),
        url=row.url or "",
        headers=dict(row.headers or {}),
        is_active=bool(row.is_active),
        for_all_actions=bool(row.send_for_all_actions),
        with_payload=bool(row.send_payload),
    )
