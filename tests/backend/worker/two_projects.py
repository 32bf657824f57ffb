"""A running server with its worker, and two projects: 4 sends bad values, 8 good ones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from taxonomist.backend.services import Services
from taxonomist.storage.catalog.image_ids import image_id
from tests.backend_process import BackendProcess
from tests.integration.test_bad_days import annotation
from tests.waiting import eventually


@dataclass
class Backend:
    """The running backend. Project 4 sends bad values, project 8 good ones."""

    process: BackendProcess
    services: Services
    numbers: Iterator[int] = field(default_factory=lambda: count(1000))

    def post(self, body: bytes | str, route: str = "webhook") -> int:
        """Return the status of the answer."""
        headers = {"Content-Type": "application/json"}
        data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
        return httpx.post(f"{self.process.url}/{route}", content=data, headers=headers, timeout=60).status_code

    def send(self, change: Callable[[dict[str, Any]], object], **others: str) -> int:
        """Send an annotation of project 4 after a change; `others` replace texts in its JSON."""
        number = next(self.numbers)
        body = annotation(number, number, f"/data/upload/4/{number}.jpg", ["Warm", "Red"], minute=1)
        change(body)
        text = json.dumps(body)
        for old, new in others.items():
            assert old in text
            text = text.replace(f'"{old}"', new)
        return self.post(text)

    def execute(self, database: str, statement: str, *values: object) -> None:
        """Damage a database as no request can."""
        connection = sqlite3.connect(self.process.home / database, timeout=30)
        with connection:
            assert connection.execute(statement, values).rowcount
        connection.close()

    def learns(self, project: int = 8) -> bool:
        """Return whether the worker accepts a new label of a project."""
        number = next(self.numbers)
        image = f"/data/upload/{project}/{number}.jpg"
        body = annotation(number, number, image, ["Warm", "Red"], minute=1)
        body["project"]["id"] = project
        assert self.post(json.dumps(body)) == 201

        def accepted() -> bool:
            document = self.services.catalog.get(image_id(image))
            return document is not None and document.projects[str(project)].labelled

        eventually(f"the label of project {project}\n{self.process.said()}", accepted, timeout=30)
        return True
