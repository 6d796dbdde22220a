"""The report of prototypes: all metrics of each of them in one table."""
