"""What the Azure implementations share: clients, the retry policy, background refresh and signed links."""
