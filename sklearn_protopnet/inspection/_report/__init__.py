"""The report: one HTML file that shows what a classifier looks at."""
