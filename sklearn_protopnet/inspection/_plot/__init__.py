"""Displays: pictures of explanations, the only place that knows matplotlib."""
