"""`python -m taxonomist` is the command line."""

from taxonomist.backend.cli import main

if __name__ == "__main__":
    main()
