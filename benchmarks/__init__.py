"""Measures, each beside the ceiling that the same machine allows in the same run.

One module a benchmark, found by its name; nothing here is imported by the product.
"""
