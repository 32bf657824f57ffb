"""What is kept in the file of the journal besides events: copies of other files, and how images were drawn."""
