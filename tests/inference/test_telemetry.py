"""Nothing leaves the machine. onnxruntime sends reports unless a variable forbids it before the import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.network import ForwardProxy

EMBED = """
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import FOLDER
Embedder(FOLDER / BACKBONE_FILE)
"""


@pytest.mark.parametrize("packages", ["", "import lightly.models.modules, torchvision, sklearn", "import taxonomist"])
def test_a_process_that_embeds_reports_to_nobody(forward_proxy: ForwardProxy, tmp_path: Path, packages: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    variables |= {"HOME": str(tmp_path), "HTTPS_PROXY": forward_proxy.url, "HTTP_PROXY": forward_proxy.url}
    subprocess.run([sys.executable, "-c", packages + EMBED], env=variables, check=True)
    assert forward_proxy.passed == []
    assert not list(tmp_path.rglob("*Microsoft*"))  # the id that it keeps, and what it would send
