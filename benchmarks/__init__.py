"""How fast the product is, beside a plain backend measured in the same run: `python -m benchmarks.run`."""
