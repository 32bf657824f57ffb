"""Scripts for people who work on the project; they are not part of the distribution."""
