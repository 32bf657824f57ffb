"""Prints `azureml/environment/requirements.txt`, from which Azure ML builds the image of the steps: the dependencies of
the project and of some extras, as pyproject.toml lists them. `make requirements` writes the file."""

import tomllib
from pathlib import Path

EXTRAS = ("train", "plots", "azure")


def requirements() -> str:
    """Return the text of the file."""
    root = Path(__file__).resolve().parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in EXTRAS:
        lines += [line for line in project["optional-dependencies"][extra] if not line.startswith(project["name"])]
    return "\n".join(["# Made by `make requirements` from pyproject.toml.", *sorted(lines, key=str.lower), ""])


if __name__ == "__main__":
    print(requirements(), end="")  # noqa: T201 - a script
