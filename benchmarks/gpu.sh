#!/usr/bin/env bash
# Measure pre-training on one CUDA GPU: agreement of the eager and the recorded step, images/s beside lightly and beside
# the limit of the encoders, and the time of the study's own pre-training. Takes less than nine minutes and ends by
# itself. Needs a Python with the extra train; tables are written to the folder that is given.
#
#   benchmarks/gpu.sh benchmarks/results
#   PYTHON=python3 benchmarks/gpu.sh /tmp/results
set -uo pipefail
cd "$(dirname "$0")/.."
output=${1:-benchmarks/results}
python=${PYTHON:-python}
export PYTHONPATH=$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
mkdir -p "$output"
timeout 120 "$python" -m pytest -q -p no:cacheprovider -o addopts= --noconftest tests/training/pretraining/test_recorded_step.py -s 2>&1 |
    tee "$output/gpu-agreement.txt"
timeout 400 "$python" -m benchmarks.gpu --output "$output" "${@:2}"
