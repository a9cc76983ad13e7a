"""Floor 0: what every room may use. Standard library only; knows nothing of the product's rooms.

Import the module you need: `from bursar.kernel import money`.
"""
