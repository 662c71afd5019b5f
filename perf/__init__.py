"""Measuring: arms, workloads and reports."""
