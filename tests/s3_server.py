"""An S3 on this machine: moto's server, in an environment of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from taxonomist.backend.demo.server import HOST, free_port
from tests.environment import s3_server
from tests.waiting import eventually


@dataclass(frozen=True)
class S3:
    """A running S3; every key and secret may read it, but signed addresses expire."""

    port: int

    @property
    def host(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def put(self, bucket: str, name: str, data: bytes, content_type: str) -> None:
        """Store an object; make its bucket if needed."""
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            client.put(f"/{bucket}").raise_for_status()
            answer = client.put(f"/{bucket}/{quote(name)}", content=data, headers={"Content-Type": content_type})
            answer.raise_for_status()


@contextmanager
def running_s3(log: Path) -> Iterator[S3]:
    """Run an empty S3; its output goes to `log`."""
    server = S3(free_port())
    command = [str(s3_server()), "-m", "moto.server", "-H", HOST, "-p", str(server.port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
    try:
        eventually("moto answers", lambda: _answers(server, process, log), timeout=60)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(server: S3, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return httpx.get(server.url, trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False
