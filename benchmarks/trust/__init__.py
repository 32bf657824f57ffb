"""Simulations of what the documentation says about trust, each with its seeds and its command."""
