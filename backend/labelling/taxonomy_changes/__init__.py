"""Labels that name what the taxonomy has no longer: how many there are, and what a person decides about them."""
