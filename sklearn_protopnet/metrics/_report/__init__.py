"""The report of prototypes: all metrics of each of them in one table.

`_columns` holds a record for each column, `_context` what columns are computed from.
"""
