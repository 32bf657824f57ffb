"""Checks of a connected project in Label Studio."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta

from taxonomist.backend.connection.connect import own_row, own_webhooks, webhook_address, webhook_is_right
from taxonomist.backend.connection.doctor.result import Check, failed, failure, guarded, passed, warned
from taxonomist.backend.connection.look_alike_panel import keys_in, panel_address, panels_in
from taxonomist.backend.label_studio import LabelStudioClient, MlBackend, Project, Webhook
from taxonomist.backend.label_studio.failures import DOTLESS_FIX, REACH_FIX, SSRF_FIX
from taxonomist.backend.labelling.sources import describe_other
from taxonomist.backend.prediction.labelling_order import has_order
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.backend.services.framing import framing_sites
from taxonomist.backend.services.one_address import page_base
from taxonomist.backend.state.credentials import RENEWED_DAYS, key_end, today
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.inference.image_decoding import decode_image
from taxonomist.taxonomy.errors import AuthError, ConfigError, LabelStudioError, TaxonomistError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config

OLDEST_TESTED, NEWEST_TESTED = (1, 15), (1, 23)  # README names them too; see CONTRIBUTING.md
_BY_SCORE = "Uncertainty sampling"


def checks(services: Services, project: str, client: LabelStudioClient) -> Iterator[Check]:
    """Yield the checks of one project. They end early when a failure makes the other checks impossible."""
    try:
        yield _version(client.url, client.version(), services.label_studio_addresses(project))
    except LabelStudioError as error:
        yield failure("Label Studio", error)
        return
    try:
        stored, user = client.token, client.user()
        if client.token == stored:
            yield passed("token", f"is valid, it belongs to {user}")
        else:
            detail = f"the stored one was revoked; that of TAXONOMIST_LABEL_STUDIO_API_KEY, of {user}, is used"
            yield warned("token", detail, _connect(project))
    except LabelStudioError as error:
        yield failure("token", error)
        return
    try:
        about = client.project(project)
    except LabelStudioError as error:
        yield failure("project", error)
        return
    record = services.projects.get(project)
    yield _identity(about, record)
    yield from _last_pass(services, project)
    config = None
    try:
        config = parse_label_config(about.label_config)
        yield _taxonomy(about, record, config)
    except ConfigError as error:
        yield failure("taxonomy", error, "correct the labelling config in Label Studio")
    rows = client.ml_backends(project)
    row = own_row(rows, services.settings, record)
    yield _ml_backend(services, project, rows, row)
    yield from guarded("webhook", _webhook(services, project, client, row))
    if row is not None:
        yield _title(services, project, about, row)
    yield _prefill(about)
    if has_order(services, project):
        yield _order(about)
    if config is not None:
        yield _panel(services, project, about, config)
        if panels_in(about.label_config):
            yield _frames(services, project)
        yield _image(services, project, client, config)


def _version(url: str, release: str, others: Sequence[str]) -> Check:
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    oldest, newest = (".".join(map(str, tested)) for tested in (OLDEST_TESTED, NEWEST_TESTED))
    detail = f"{release} at {url}" + (f", also known as {', '.join(others)}" if others else "")
    if numbers < OLDEST_TESTED:
        return warned("Label Studio", f"{detail}: older than {oldest}, the oldest tested", "update Label Studio")
    if numbers > NEWEST_TESTED:
        fix = "update taxonomist, or see whether the other checks pass"
        return warned("Label Studio", f"{detail}: newer than {newest}, the newest tested", fix)
    return passed("Label Studio", detail)


def _connect(project: str) -> str:
    return f"taxonomist connect --project {project}"


def _identity(about: Project, record: ProjectRecord) -> Check:
    detail = f"{about.title!r}, {about.tasks} tasks, {about.annotated_tasks} of them annotated"
    if record.created is not None and record.created != about.created:
        return failed(
            "project",
            f"{detail}; {describe_other(about, record.created)}",
            f"start Label Studio with its old data; or, if this project is meant, use a new TAXONOMIST_HOME, then "
            f"{_connect(about.id)}",
        )
    return passed("project", detail)


def _last_pass(services: Services, project: str) -> Iterator[Check]:
    """Yield a check that failed when the last pass over Label Studio's API did not succeed, with its reason."""
    ended = (job for job in services.jobs.latest(project, JobKind.SYNC) if job.ended_at is not None)
    last = next(ended, None)
    if last is not None and last.state is JobState.FAILED:
        yield failed("pass over Label Studio", last.outcome, f"taxonomist sync --project {project}")


def _taxonomy(about: Project, record: ProjectRecord, config: LabelConfig) -> Check:
    detail = ", ".join(f"{tree.control} with {len(tree)} nodes" for tree in config.trees)
    detail += "".join(f"; {note.rstrip('.')}" for note in config.notes)
    if record.label_config and record.label_config != about.label_config:
        return warned(
            "taxonomy",
            f"{detail}; the labelling config has changed and no webhook has reported it",
            f"taxonomist sync --project {about.id}, and see the check of the webhook",
        )
    return passed("taxonomy", detail)


def _ml_backend(services: Services, project: str, rows: list[MlBackend], row: MlBackend | None) -> Check:
    settings = services.settings
    if row is None:
        return failed("ML backend", f"{settings.url} is not registered", _connect(project))
    if row.url.rstrip("/") != settings.url:
        return failed("ML backend", f"is registered at {row.url}, but the server is {settings.url}", _connect(project))
    if rows[0].id != row.id:
        return failed(
            "ML backend",
            f"Label Studio asks only the first one, {rows[0].url}",
            "remove that one in the project's Settings > Model",
        )
    if not row.is_connected:
        detail = f"Label Studio finds it {row.state_name.lower() or row.state}"
        reason = re.sub(r"\s+", " ", row.error)[:300]
        if "401" in reason or "Authentication" in reason:
            return failed("ML backend", f"{detail}: the password is wrong", _connect(project))
        # Label Studio gives no reason when it blocks an address: it looks like a server that is down.
        return failed("ML backend", f"{detail} {f'({reason})' if reason else ''}".rstrip(), f"{REACH_FIX} {SSRF_FIX}")
    is_given = settings.password is not None or services.projects.get(project).has_password
    if row.auth_method != "BASIC_AUTH" or not is_given:
        detail = "is registered without the password of this server"
        if settings.password is not None:
            return failed("ML backend", detail, _connect(project))
        return warned(
            "ML backend", f"{detail}: any program on this machine may call for the project", _connect(project)
        )
    return passed("ML backend", f"Label Studio reaches {row.url}")


def _webhook(services: Services, project: str, client: LabelStudioClient, row: MlBackend | None) -> Iterator[Check]:
    settings, credentials = services.settings, services.credentials
    address = webhook_address(settings)
    ours = own_webhooks(client.webhooks(project), settings, credentials)
    active = [hook for hook in ours if hook.is_active]
    if not active:
        half_made = row is not None and not ours
        fix = f"{_connect(project)}. If that is refused: {SSRF_FIX} {DOTLESS_FIX}" if half_made else _connect(project)
        yield failed("webhook", f"there is none to {address}: annotations do not arrive", fix)
    elif not webhook_is_right(active[0], settings, credentials):
        wrong = f"goes to {active[0].url}" if active[0].url != address else "lacks the secret, an event or the payload"
        yield failed("webhook", f"webhook {active[0].id} {wrong}", _connect(project))
    elif len(active) > 1:
        yield warned("webhook", f"{len(active)} of them send the same events", _connect(project))
    else:
        yield passed("webhook", f"sends all events to {address} with the secret")
    if active and active[0].for_all_actions:  # the update would lose a choice of single actions
        yield _allowed(client, active[0])


def _allowed(client: LabelStudioClient, hook: Webhook) -> Check:
    """Return whether Label Studio's SSRF settings let it send the webhook.

    They cannot be read. With wrong ones Label Studio shows the webhook as usual and sends nothing, without an error. It
    checks an address when a webhook is changed, so the webhook is given the address that it has.
    """
    try:
        client.update_webhook(hook, url=hook.url)
    except LabelStudioError as error:
        return failure("SSRF settings", error)
    return passed("SSRF settings", f"let Label Studio call {hook.url}")


def _title(services: Services, project: str, about: Project, row: MlBackend) -> Check:
    version = Predictor(services).model_version(project)
    if row.title != about.model_version:
        return failed(
            "model version",
            f"annotators see predictions of {about.model_version or 'no version'!r}, the ML backend is {row.title!r}: "
            "the label stream does not ask it",
            _connect(project),
        )
    if row.title != version:
        return warned(
            "model version",
            f"Label Studio knows {row.title!r}, predictions are {version!r}: no scores and no uncertainty sampling",
            _connect(project),
        )
    return passed("model version", version)


def _prefill(about: Project) -> Check:
    if not about.show_collab_predictions:
        return failed("pre-filling", "is turned off in the project", _connect(about.id))
    return passed("pre-filling", "is turned on")


def _order(about: Project) -> Check:
    if about.sampling == _BY_SCORE:
        return passed("order of labelling", "Label Studio takes the tasks by their places")
    return warned(
        "order of labelling",
        f"only a Data Manager that is sorted by prediction score shows it: the task sampling is {about.sampling!r}",
        f"choose {_BY_SCORE} as the project's task sampling in Label Studio",
    )


def _panel(services: Services, project: str, about: Project, config: LabelConfig) -> Check:
    keys = keys_in(about.label_config)
    former_until = services.projects.get(project).former_keys_until
    try:
        ends = [services.credentials.check_project_key(project, key, former_until=former_until) for key in keys]
    except AuthError as error:
        return failure("look-alike panel", error, _connect(project))
    key = keys[0] if keys else ""
    base = page_base(services.settings.page_url, services.projects.get(project), services.label_studio(project)[0])
    wanted = {panel_address(base, project, key, value) for value in config.images.values()}
    shown = panels_in(about.label_config)
    if not shown:
        return warned("look-alike panel", "is not in the labelling config", _connect(project))
    if not wanted.issuperset(shown):
        return failed("look-alike panel", "has an old address or key", _connect(project))
    if missing := len(wanted.difference(shown)):
        return warned("look-alike panel", f"is missing beside {missing} of {len(wanted)} images", _connect(project))
    if key_end(key) is None:
        return passed("look-alike panel", "is in the labelling config; the worker gives its key an end")
    detail = f"is in the labelling config, with a key that is valid until {min(ends)}"
    if min(ends) <= today() + timedelta(days=RENEWED_DAYS - 2):
        return warned("look-alike panel", f"{detail}: the worker has not renewed it", _connect(project))
    return passed("look-alike panel", detail)


def _frames(services: Services, project: str) -> Check:
    """Return whether browsers can be told that pages of Label Studio may show the panel."""
    sites = framing_sites(services, project)
    if not sites.unnamed:
        return passed("frame of the panel", sites.description)
    return warned(
        "frame of the panel",
        sites.description,
        "open Label Studio by a name of letters, digits, hyphens and dots, and put that address into "
        "TAXONOMIST_LABEL_STUDIO_ADDRESSES",
    )


def _image(services: Services, project: str, client: LabelStudioClient, config: LabelConfig) -> Check:
    try:
        task = next(client.tasks(project), None)
        if task is None:
            return warned("image", "the project has no tasks", "import tasks in Label Studio")
        addresses = config.addresses(task["data"])
        if missing := [f"{name} (value={config.images[name]!r})" for name in config.images if name not in addresses]:
            detail = f"task {task['id']} has no image for {', '.join(missing)}"
            return failed("image", detail, "correct the task, or value=… of the <Image>")
        uri = addresses[config.first_image]
        image = decode_image(services.images(project).read(uri), max_pixels=services.settings.max_image_pixels)
    except TaxonomistError as error:
        return failure("image", error, "see the server's log")
    return passed("image", f"task {task['id']} can be read ({image.width}×{image.height})")
