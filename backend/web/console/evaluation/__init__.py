"""The page of the console that shows how good a version is: its numbers, each with the way to its images."""
