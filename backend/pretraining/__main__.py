"""The process of a pre-training that a worker starts: `python -m taxonomist.backend.pretraining --home … --job …`.

It runs with low priority and leaves the first core to the server. Niceness and cores are properties of a thread and are
inherited only by threads that start later. numpy starts threads when it is imported, so this module sets both before it
imports anything that uses numpy.
"""

import argparse
import contextlib
import os
import sys

NICENESS = 10  # leaves a tenth of a core beside a busy process; 19 would leave 1.5 %, too little to make progress


def lower_priority(niceness: int) -> None:
    """Lower the priority of this process and, on several cores, leave the first core to the server."""
    if hasattr(os, "nice"):
        os.nice(niceness)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            with contextlib.suppress(OSError):  # a container may forbid it
                os.sched_setaffinity(0, cores[1:])


def main() -> None:
    """Run the job that the worker has started and write its outcome to the job table."""
    parser = argparse.ArgumentParser("python -m taxonomist.backend.pretraining")
    parser.add_argument("--home", required=True, help="home folder")
    parser.add_argument("--log-level", required=True)
    parser.add_argument("--job", required=True, help="id of the worker's job")
    parser.add_argument("--parent", type=int, required=True, help="process id of the worker; this process ends with it")
    parser.add_argument("--niceness", type=int, default=NICENESS, help="added to the worker's (default: %(default)s)")
    options = parser.parse_args()
    lower_priority(options.niceness)

    from taxonomist.backend.logs import set_up_logging  # noqa: PLC0415 - after the priority is lowered
    from taxonomist.backend.pretraining.job import run_job  # noqa: PLC0415 - after the priority is lowered
    from taxonomist.backend.pretraining.state import EXIT_NO_ROOM, StopSignal  # noqa: PLC0415 - likewise
    from taxonomist.backend.services import Services  # noqa: PLC0415 - after the priority is lowered
    from taxonomist.backend.settings import load_settings  # noqa: PLC0415 - after the priority is lowered

    settings = load_settings(home=options.home, log_level=options.log_level)
    set_up_logging(settings.log_level)
    services = Services(settings)
    try:
        with StopSignal(options.parent) as should_stop:
            has_room = run_job(services, options.job, should_stop)
    finally:
        services.close()
    if not has_room:
        sys.exit(EXIT_NO_ROOM)


if __name__ == "__main__":
    main()
