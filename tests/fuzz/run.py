"""Sends mutated requests to a real server and checks each answer."""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from taxonomist.backend.services import Services
from tests.backend_process import BackendProcess
from tests.fuzz.mutations import Request, mutated
from tests.small_world import CONFIG
from tests.soak.processes import processes

CAPTURES = Path(__file__).parents[1] / "data" / "captures.json"
CLIENTS = 8
ANSWER_LIMIT_S = 30.0
ALLOWED = {503, 507}  # the only 5xx: too much at once, no room on the disk


@dataclass
class Report:
    """What was sent and found. Memory is that of the server's processes in MB, each tenth of the requests."""

    requests: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    memory_mb: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def to_text(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(vars(self), indent=1, default=str)


def fuzz(services: Services, backend: BackendProcess, count: int, seed: int = 0) -> Report:
    """Send that many requests to a running server on the home of `make_trained_home`, most with its password."""
    report, lock = Report(), threading.Lock()
    recorded = json.loads(CAPTURES.read_text(encoding="utf-8"))
    seeds = [request for request in recorded if request["path"] != "/health"] + 40 * [_prediction(services)]
    credentials = services.credentials
    password = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()

    def send(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        request = mutated(chance.choice(seeds), chance)
        if chance.random() < 0.9:
            request.headers.setdefault("Authorization", f"Basic {password}")
        began = time.monotonic()
        status, answer, trouble = _exchange(backend.port, request)
        taken = time.monotonic() - began
        finding = trouble or _fault(request, status, answer)
        with lock:
            report.requests += 1
            report.statuses[status] += 1
            report.slowest_s = max(report.slowest_s, taken)
            if finding:
                shown = f"{request.method} {request.path[:200]} {request.headers} {request.body[:2000]!r}"
                report.findings.append(f"{number}: {finding}: {answer[:500]!r} to {shown}")
            if report.requests % max(1, count // 10) == 0:
                report.memory_mb.append(_memory_mb(backend))

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in clients.map(send, range(count)):
            pass
    report.seconds = time.monotonic() - began
    said = backend.log.read_text(encoding="utf-8", errors="replace")
    if "Traceback" in said:
        at = said.index("Traceback")
        report.findings.append(f"the log has a traceback: {said[max(0, at - 500) : at + 3000]}")
    return report


def _prediction(services: Services) -> dict[str, Any]:
    """Return the request of a prediction for three images of the trained project."""
    addresses = [document.projects["7"].uri for document in islice(services.catalog.documents("7"), 3)]
    tasks = [{"id": number, "data": {"image": uri}, "meta": {}} for number, uri in enumerate(addresses, start=1)]
    params = {"context": None, "login": None, "password": None}
    body = {"tasks": tasks, "project": "7.1795531934", "label_config": CONFIG, "params": params}
    return {"method": "POST", "path": "/predict", "body": body}


def _exchange(port: int, request: Request) -> tuple[int, bytes, str]:
    """Return status and body of the answer, and what was wrong with the exchange."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.putrequest(
            request.method, request.path, skip_host="Host" in request.headers, skip_accept_encoding=True
        )
        for name, value in request.headers.items():
            connection.putheader(name, value.encode("latin-1"))
        if "Content-Length" not in request.headers:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        return answer.status, answer.read(), ""
    except (ValueError, http.client.InvalidURL):
        return 0, b"", ""  # the client itself refuses to send it
    except TimeoutError:
        return 0, b"", f"no answer within {ANSWER_LIMIT_S:.0f} s"
    except (OSError, http.client.HTTPException) as error:
        return 0, b"", f"no answer ({error!r})"
    finally:
        connection.close()


def _fault(request: Request, status: int, answer: bytes) -> str:
    if status >= 500 and status not in ALLOWED:
        return f"status {status}"
    if status != 200 or request.method != "POST" or request.path not in {"/predict", "/setup", "/webhook"}:
        return ""
    try:
        content = json.loads(answer)
    except ValueError:
        return "not JSON"
    return _predict_fault(request, content) if request.path == "/predict" else ""


def _predict_fault(request: Request, content: Any) -> str:
    """Return what Label Studio could not take of an answer to /predict."""
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, list):
        return "no list of results"
    tasks = json.loads(request.body).get("tasks")
    if isinstance(tasks, list) and len(tasks) != len(results):
        return f"{len(results)} results for {len(tasks)} tasks"
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("result"), list):
            return "a result without a list of regions"
        score = result.get("score")
        if not isinstance(score, int | float) or not 0 <= score <= 1:
            return f"the score {score}"
        for region in result["result"]:
            if not all(isinstance(region.get(name), str) for name in ("from_name", "to_name", "type")):
                return f"the region {region}"
    return ""


def _memory_mb(backend: BackendProcess) -> int:
    """Return the resident memory of the server's processes, without the worker's."""
    assert backend.process is not None
    found = processes(backend.process.pid)
    total = 0
    for pid in (*found["server"], *found["web"]):
        status = Path(f"/proc/{pid}/status").read_text()
        total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return total // 1024
