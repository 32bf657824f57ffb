"""Who calls the server, what callers may do, what no caller may send, and how failed passwords are slowed down."""
