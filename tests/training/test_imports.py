import subprocess
import sys

SERVING = (
    "training.pictures",
    "training.embedder",
    "training.head_weights",
    "training.neighbours",
    "training.augment",
    "training.vectors",
    "training.split",
    "training.promote",
)


def test_serving_needs_no_torch() -> None:
    code = f"import sys, {', '.join(SERVING)}; print(sorted(m for m in sys.modules if m.split('.')[0] == 'torch'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
