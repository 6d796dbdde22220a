"""Explanations: evidence as tables, and pictures of it.

`ProtoPNetClassifier.explain` and its siblings give the tables; the displays draw them.
"""

from sklearn_protopnet.inspection._displays import ExplanationDisplay, PrototypeDisplay

__all__ = ["ExplanationDisplay", "PrototypeDisplay"]
