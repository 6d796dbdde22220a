"""Edits of a fitted classifier: forbid, require, merge, prune, name and add prototypes."""

from sklearn_protopnet.editing._editor import PrototypeEditor

__all__ = ["PrototypeEditor"]
