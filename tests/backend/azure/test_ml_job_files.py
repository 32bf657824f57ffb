"""The files for Azure ML: what azure-ai-ml says of them, and our own command line of the commands in them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from taxonomist.backend.azure import ml_job
from taxonomist.backend.azure.ml_job import PIPELINE, SNAPSHOT, SOURCE, STEPS
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.errors import ConfigError
from tests.backend.command_line import check

FOLDER = SOURCE / PIPELINE.parent
# azure-ai-ml and marshmallow emit deprecation warnings about each other.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.parametrize("step", STEPS)
def test_azure_ml_takes_each_component(step: str) -> None:
    from azure.ai.ml import load_component

    component: Any = load_component(FOLDER / f"{step}.yaml")
    result = component._validate()
    assert result.passed, result.error_messages
    assert (FOLDER / component.code).resolve() == SOURCE
    assert (FOLDER / component.environment.build.path / "Dockerfile").is_file()
    assert component.is_deterministic is False


def test_azure_ml_takes_the_pipeline_as_it_is() -> None:
    from azure.ai.ml import load_job

    job: Any = load_job(SOURCE / PIPELINE)
    result = job._validate()
    assert result.passed, result.error_messages
    assert list(job.jobs) == list(STEPS)


@pytest.mark.parametrize("cluster", ["cpu-cluster", "gpu-cluster"])
def test_azure_ml_takes_the_clusters_with_an_identity(cluster: str) -> None:
    from azure.ai.ml import load_compute

    identity = "/subscriptions/0/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
    override = [{"identity.user_assigned_identities[0].resource_id": identity}]
    found: Any = load_compute(FOLDER / f"{cluster}.yaml", params_override=override)
    assert (found.name, found.min_instances) == (cluster, 0)
    assert found.identity.user_assigned_identities[0].resource_id == identity


def command_of(step: str) -> str:
    """Return the command as a shell gets it, with all inputs, also the optional ones."""
    from azure.ai.ml import load_component

    component: Any = load_component(FOLDER / f"{step}.yaml")
    samples = {"integer": "160", "string": "default", "uri_folder": "/in"}
    text = str(component.command).replace("$[[", "").replace("]]", "")
    for name, port in component.inputs.items():
        sample = "--include 'Sofas and chairs' --min-annotators 2" if name == "options" else samples[port.type]
        text = text.replace(f"${{{{inputs.{name}}}}}", sample)
    for name in component.outputs:
        text = text.replace(f"${{{{outputs.{name}}}}}", f"/out/{name}")
    assert "{{" not in text, "an input or output that the component does not declare"
    return text


@pytest.mark.parametrize("step", STEPS)
def test_our_command_line_takes_each_command(step: str, tmp_path: Path) -> None:
    ours = [part for part in command_of(step).split("&&") if part.split()[0] == "taxonomist"]
    assert len(ours) == 1
    check(shlex.split(ours[0])[1:], Services(Settings(home=tmp_path)))


def test_steps_hand_their_outputs_on() -> None:
    jobs = yaml.safe_load((SOURCE / PIPELINE).read_text())["jobs"]
    used = {name: set(re.findall(r"parent\.jobs\.(\w+)", json.dumps(job))) for name, job in jobs.items()}
    assert used == {"query": set(), "fetch": {"query"}, "pretrain": {"fetch"}, "train": {"fetch", "pretrain"}}


def test_requirements_are_those_of_the_project() -> None:
    script = SOURCE / "deploy" / "azureml_requirements.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert (FOLDER / "environment" / "requirements.txt").read_text() == made, "run `make requirements`"
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = {line for line in made.splitlines() if not line.startswith("#")}
    listed = {*project["dependencies"], *extras["train"], *extras["plots"], *extras["azure"]}
    assert lines == {line for line in listed if not line.startswith(project["name"])}


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"DEFAULT_IDENTITY_CLIENT_ID": "a"}, "a"), ({"DEFAULT_IDENTITY_CLIENT_ID": "a", "AZURE_CLIENT_ID": "b"}, "b")],
)
def test_the_command_of_the_image_signs_in_as_the_compute(tmp_path: Path, given: dict[str, str], expected: str) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$AZURE_CLIENT_ID" "$@"\n')
    python.chmod(0o755)
    script = FOLDER / "environment" / "taxonomist"
    done = subprocess.run(
        ["sh", script, "data", "query"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{expected} -m taxonomist data query"


def test_the_code_is_sent_and_nothing_else(tmp_path: Path) -> None:
    """Ours and .amlignore, read by azure-ai-ml, agree."""
    from azure.ai.ml._utils._asset_utils import get_ignore_file

    pipeline = ml_job.copy_source(SOURCE, tmp_path)
    assert pipeline.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {name.split("/")[0] for name in SNAPSHOT} | {".amlignore"}
    ignored = get_ignore_file(SOURCE)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.relative_to(tmp_path).parts[0] not in {"deploy", ".amlignore"}:
            assert not ignored.is_file_excluded(SOURCE / path.relative_to(tmp_path)), path
            assert path.suffix != ".pyc"
    for name in (
        "taxonomist.toml",
        ".git/config",
        ".demo/projects/1.json",
        ".venv/training/x.py",
        "x/backend/a.py",
    ):
        assert ignored.is_file_excluded(SOURCE / name), name
    with pytest.raises(ConfigError, match="--source"):
        ml_job.copy_source(tmp_path / "backend", tmp_path / "elsewhere")
