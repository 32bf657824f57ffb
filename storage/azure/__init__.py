"""What the Azure implementations share: clients made from settings, and patience with a service that is far away."""
