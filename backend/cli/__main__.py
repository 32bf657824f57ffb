"""`python -m backend.cli`, as the supervisor starts the worker."""

from backend.cli import main

if __name__ == "__main__":
    main()
