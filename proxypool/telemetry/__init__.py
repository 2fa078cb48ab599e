"""Metrics and logs: they listen to facts and decide nothing."""
