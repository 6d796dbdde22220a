"""Explanations: evidence as tables, and pictures of it."""

