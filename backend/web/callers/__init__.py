"""Who calls the server, what callers may do without the password, and how failed passwords are slowed down."""
