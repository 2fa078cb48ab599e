"""Composition roots of the long-running roles and the loop that drives them."""
