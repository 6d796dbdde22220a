"""Edits of a fitted classifier: which prototypes it may use, and what they are called."""
