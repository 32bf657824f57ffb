"""One process of a pre-training over several devices. `pretrain(..., devices=4)` starts four of them by torchrun.

On several machines: call `pretrain(..., devices=4, nodes=2)`, or `taxonomist pretrain --devices 4 --nodes 2`, on one
of them. It puts what is needed into the run's folder, which both must see under the same path, like the prepared
pictures, and says the command to start on each, such as

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint FIRST-NODE:29500 \\
        -m taxonomist.training.pretraining.distributed HOME/pretraining/run

FIRST-NODE is the name of one of the machines. When that has ended, the same call as at first finds the run finished.
Interrupted or killed, the command goes on from the last checkpoint, with any number of devices.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.training.pretraining.distributed.launch import FOLDER, Inputs, is_wanted, tell_outcome, tell_status
from taxonomist.training.pretraining.pretrain import Interrupted, pretrain

_ASK_EVERY = 0.5  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Train along; 0 when the run is finished or was interrupted."""
    parser = argparse.ArgumentParser(
        "python -m taxonomist.training.pretraining.distributed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--child", action="store_true", help="end when the process that started this one has ended")
    options = parser.parse_args(arguments)
    folder = options.folder / FOLDER
    watches = options.child and os.environ.get("RANK", "0") == "0"
    try:
        inputs, device = Inputs.read(folder)
        pretrain(
            inputs.pictures,
            inputs.recipe,
            options.folder,
            rows=inputs.rows,
            groups=inputs.groups,
            probe=inputs.probe,
            device=device,
            on_status=lambda status: tell_status(folder, status),
            should_stop=_is_unwanted(folder) if watches else None,
        )
    except TaxonomistError as error:
        tell_outcome(folder, error)
        print(error, file=sys.stderr)  # noqa: T201 - into the log
        return 0 if isinstance(error, Interrupted) else 1
    return 0


def _is_unwanted(folder: Path) -> Callable[[], bool]:
    asked, unwanted = 0.0, False

    def ask() -> bool:
        nonlocal asked, unwanted
        if time.monotonic() - asked > _ASK_EVERY:
            asked, unwanted = time.monotonic(), not is_wanted(folder)
        return unwanted

    return ask


if __name__ == "__main__":
    sys.exit(main())
