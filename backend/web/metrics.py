"""Metrics for Prometheus. Each application has a registry of its own, so two in one process do not share numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from taxonomist.backend.state.suggestions import AnswerCount
from taxonomist.storage.registry.manifests import HeadManifest

Figures = dict[tuple[Gauge, tuple[str, ...]], float]


class Metrics:
    """The metrics of the server; `text` gives them in Prometheus' exposition format."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._shown: dict[tuple[str, str], Figures] = {}  # the figures of a model and of its promise, by project
        self._promised: dict[str, tuple[str, ...]] = {}  # the controls of the served model, by project
        self.requests = Counter(
            "taxonomist_requests", "Requests answered", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "taxonomist_request_seconds",
            "Time to answer a request, in seconds",
            ["route"],
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100),
            registry=self._registry,
        )
        self.tasks = Counter(
            "taxonomist_predicted_tasks", "Tasks in prediction requests", ["outcome"], registry=self._registry
        )
        self.events = Counter("taxonomist_webhook_events", "Events in webhooks", ["outcome"], registry=self._registry)
        self.new_events, self.known_events = self.events.labels("new"), self.events.labels("known")
        self.pending = Gauge("taxonomist_journal_pending", "Events not yet folded", registry=self._registry)
        self.waiting = Gauge("taxonomist_jobs_waiting", "Jobs that wait for the worker", registry=self._registry)
        self.set_aside = Gauge(
            "taxonomist_set_aside",
            "What could not be processed and waits, by kind: event, image, step or job",
            ["kind"],
            registry=self._registry,
        )
        self.unavailable_hosts = Gauge(
            "taxonomist_unavailable_hosts",
            "Hosts that did not answer several times and are not asked for images for a while",
            registry=self._registry,
        )
        self.macro_f1 = Gauge(
            "taxonomist_model_macro_f1",
            "Macro-F1 of the served model on its test images; nothing for a model that was never tested",
            ["project", "control", "version", "products"],
            registry=self._registry,
        )
        self.test_images = Gauge(
            "taxonomist_model_test_images",
            "Test images of the served model; 0: it was never tested",
            ["project", "version", "products"],
            registry=self._registry,
        )
        self.panel_uses = Counter(
            "taxonomist_panel_labels",
            "Panels that offered a label to take, labels that people took there, and those that they changed again",
            ["project", "use"],
            registry=self._registry,
        )
        answer_labels = ["project", "version", "level", "blind"]
        self.answered = Gauge(
            "taxonomist_suggestions_answered",
            "Suggestions of the served model for images that have an accepted label; blind ones were not shown",
            answer_labels,
            registry=self._registry,
        )
        self.right = Gauge(
            "taxonomist_suggestions_right", "Those that the label confirms", answer_labels, registry=self._registry
        )
        self.promise_broken = Gauge(
            "taxonomist_promise_broken",
            "1: suggestions are no longer right often enough, so the served model suggests less, or nothing",
            ["project", "control", "version"],
            registry=self._registry,
        )
        self.floor = Gauge(
            "taxonomist_suggestion_floor",
            "Least probability of a suggestion since the promise is broken; 0: it is not, +Inf: nothing is suggested",
            ["project", "control", "version"],
            registry=self._registry,
        )
        self.worker_age = Gauge(
            "taxonomist_worker_heartbeat_age_seconds",
            "Seconds since the worker's last heartbeat",
            registry=self._registry,
        )

    def show_model(self, project: str, version: str, manifest: HeadManifest) -> None:
        """Show the figures of a project's served model; those of the version before disappear."""
        tested = manifest.tested
        products = "known" if tested is not None and not tested.without_product else "unknown"
        if tested is not None and tested.without_product and tested.products_known:
            products = "partly known"
        support = max((level.support for found in manifest.metrics.values() for level in found.levels), default=0)
        figures: Figures = {}
        figures[self.test_images, (project, version, products)] = tested.images if tested is not None else support
        for control, metrics in manifest.metrics.items():
            figures[self.macro_f1, (project, control, version, products)] = metrics.macro_f1
        self._promised[project] = tuple(manifest.calibration)
        self._show("model", project, figures)

    def show_promise(
        self, project: str, version: str, counts: Iterable[AnswerCount], floors: Mapping[str, float]
    ) -> None:
        """Show what became of the suggestions of a project's served model, after `show_model`."""
        figures: Figures = {}
        for count in counts:
            labels = (project, version, str(count.level), str(count.blind).lower())
            figures[self.answered, labels] = count.answered
            figures[self.right, labels] = count.right
        for control in self._promised.get(project, ()):
            figures[self.floor, (project, control, version)] = floors.get(control, 0.0)
            figures[self.promise_broken, (project, control, version)] = control in floors
        self._show("promise", project, figures)

    def _show(self, subject: str, project: str, figures: Figures) -> None:
        """Show figures of a project in place of those before."""
        for gauge, labels in self._shown.get((subject, project), {}).keys() - figures.keys():
            gauge.remove(*labels)
        for (gauge, labels), figure in figures.items():
            gauge.labels(*labels).set(figure)
        self._shown[subject, project] = figures

    def count_panel_use(self, project: str, use: str) -> None:
        """Count what a person did in a panel."""
        self.panel_uses.labels(project, use).inc()

    def text(self) -> bytes:
        """Return all metrics in the text exposition format."""
        return generate_latest(self._registry)
