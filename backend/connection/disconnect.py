"""Removing the registration of this backend from a project of Label Studio: our ML backend and our webhooks."""

from __future__ import annotations

from collections.abc import Iterator

from taxonomist.backend.connection.connect import own_row, own_webhooks, webhook_address
from taxonomist.backend.connection.look_alike_panel import panels_in
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.numbers import is_number


def is_connected(services: Services, project: str) -> bool:
    """Return whether something of ours may be registered in the project's Label Studio."""
    record = services.projects.get(project)
    return is_number(project) and (record.ml_backend is not None or record.created is not None)


def disconnect(services: Services, project: str) -> Iterator[str]:
    """Remove our ML backend and our webhooks from a connected project; yield what became of them, in sentences.

    What stays in Label Studio is named, with the place where a person removes it. Raises nothing when Label Studio is
    away or refuses: what is kept here can be forgotten all the same.
    """
    record, settings = services.projects.get(project), services.settings
    try:
        with services.open_label_studio(project) as client:
            about = client.project(project)
            check_source(services, about, client.url)
            # The webhooks first, or Label Studio reports the rest to us.
            for hook in own_webhooks(client.webhooks(project), settings, services.credentials):
                client.delete_webhook(hook)
                yield f"The webhook {hook.id} was removed from Label Studio."
            row = own_row(client.ml_backends(project), settings, record)
            if row is not None:
                client.delete_ml_backend(row)
                yield f"The ML backend {row.id} was removed from Label Studio."
            if panels_in(about.label_config):
                yield (
                    f"The look-alike panel stays in the labelling config of project {project}: remove it in Label "
                    "Studio under Settings > Labeling Interface."
                )
    except TaxonomistError as error:
        yield (
            f"The registration in Label Studio may still be there ({error}) Remove {settings.url} under Settings > "
            f"Model, and {webhook_address(settings)} under Settings > Webhooks: an event brings the project back."
        )
    yield "Tasks, annotations and predictions stay in Label Studio; delete the project there if they are to go."
