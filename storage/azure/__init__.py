"""What the Azure implementations share: clients, the retry policy and background refresh."""
