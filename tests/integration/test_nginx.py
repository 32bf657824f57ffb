"""One address by a real nginx, with the file that compose gives it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from taxonomist.backend.demo.server import free_port
from taxonomist.backend.services import Services
from tests.backend.web.callers.test_access import calls
from tests.backend.web.callers.test_page_address import PROTOCOL, spellings, status
from tests.backend.web.people.sessions import ANNA, LabelStudio, cookie
from tests.backend.web.serving import serving
from tests.environment import nginx
from tests.small_world import CONFIG
from tests.waiting import eventually

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[2] / "deploy" / "nginx" / "one-address.conf"
MAIN = """daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/one-address.conf;
}}
"""


@contextmanager
def running(folder: Path, label_studio: str, ours: str, port: int) -> Iterator[None]:
    """Run nginx on loopback with the file of the deployment, for servers on this machine."""
    text = FILE.read_text()
    for there, here in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "http://label.studio:8080": label_studio,
        "http://ml.taxonomist:9090": ours,
    }.items():
        assert there in text
        text = text.replace(there, here)
    (folder / "one-address.conf").write_text(text)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder) + ("user root;\n" if os.geteuid() == 0 else ""))
    process = subprocess.Popen([nginx(), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"])

    def answers() -> bool:
        assert process.poll() is None
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/taxonomist/health").is_success
        return False

    try:
        eventually("nginx answers", answers)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    with LabelStudio() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_only_pages_pass(services: Services, tmp_path: Path, label_studio: LabelStudio) -> None:
    port = free_port()
    outer = f"http://127.0.0.1:{port}"
    services.settings.browser_url = f"{outer}/taxonomist"
    services.projects.update(
        "4", label_config=CONFIG, label_studio_url=label_studio.url, label_studio_outer=outer, has_password=True
    )
    password = ("taxonomist", services.credentials.password)
    page = f"{outer}/taxonomist/similar?project=4&key={services.credentials.project_key('4')}&src=x"
    with ExitStack() as stack:
        ours = stack.enter_context(serving(services, services.settings))
        stack.enter_context(running(tmp_path, label_studio.url, f"http://127.0.0.1:{ours}", port))
        for name in PROTOCOL:
            for path in spellings(name):
                if "%00" not in path:  # nginx itself refuses it
                    assert status(port, "POST", f"/taxonomist{path}", {}) == 404, path
            assert httpx.get(f"{outer}/taxonomist/{name}", auth=password).status_code == 404
        assert httpx.get(page).status_code == 403
        assert httpx.get(page, headers={"Cookie": cookie("unknown")}).status_code == 403
        assert httpx.get(page, headers={"Cookie": cookie(ANNA)}).status_code == 200
        assert httpx.get(f"{outer}/taxonomist").headers["location"] == "/taxonomist/"
        # Label Studio at the root, and our internal address as before
        session = {"Cookie": f"sessionid={ANNA}"}
        assert httpx.get(f"{outer}/api/current-user/whoami", headers=session).json()["email"] == "anna@example.com"
        inner = {
            path: httpx.post(f"http://127.0.0.1:{ours}{path}", json=body, auth=password)
            for path, body in calls().items()
        }
        assert {answer.status_code for answer in inner.values()} <= {200, 201}
