"""What the backend keeps in its home folder: jobs, project records, credentials and the worker's heartbeat."""
