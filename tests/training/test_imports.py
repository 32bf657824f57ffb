import subprocess
import sys

SERVING = (
    "taxonomist.inference.image_decoding",
    "taxonomist.inference.embedder",
    "taxonomist.inference.head_weights",
    "taxonomist.inference.neighbours",
    "taxonomist.inference.serving_model",
    "taxonomist.training.heads.label_views",
    "taxonomist.training.heads.vectors",
    "taxonomist.training.split",
    "taxonomist.training.heads.promotion",
)


def test_serving_needs_no_torch() -> None:
    code = f"import sys, {', '.join(SERVING)}; print(sorted(m for m in sys.modules if m.split('.')[0] == 'torch'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
