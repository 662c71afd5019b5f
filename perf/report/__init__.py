"""A benchmark's report: its data, its pages and plots, and the comparison of two."""
