"""Metrics for Prometheus. Each application has a registry of its own, so two in one process do not share numbers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The metrics of the server; `text` gives them in Prometheus' exposition format."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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
        self.pending = Gauge("taxonomist_journal_pending", "Events not yet folded", registry=self._registry)
        self.waiting = Gauge("taxonomist_jobs_waiting", "Jobs that wait for the worker", registry=self._registry)
        self.worker_age = Gauge(
            "taxonomist_worker_heartbeat_age_seconds",
            "Seconds since the worker's last heartbeat",
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return all metrics in the text exposition format."""
        return generate_latest(self._registry)
