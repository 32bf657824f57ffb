"""The console: pages for project leads. A page gets values that Python can ask for, too, and puts them in words."""
