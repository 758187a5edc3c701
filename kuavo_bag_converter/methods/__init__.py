"""The original team's other methods, kept as references: same settings, same dataset.

They hold the whole bag decoded in memory and promise nothing about it; tests and the benchmark
compare the product with them.
"""
