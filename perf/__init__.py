"""Measures the arms of a model: workloads, runs, reports, and the demo."""
