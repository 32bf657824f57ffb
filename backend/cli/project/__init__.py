"""The commands about one project: its connection, its images and labels, its settings."""
