"""Stage 3, the last layer: a convex problem, solved with a certificate."""

from sklearn_protopnet._last_layer._constraints import UNBOUNDED, Constraints
from sklearn_protopnet._last_layer._newton import Hessian, solve_near
from sklearn_protopnet._last_layer._problem import LARGEST, Array, Point, Problem, off_class_mask
from sklearn_protopnet._last_layer._solver import MAX_ITER, TOLERANCE, LastLayer, solve

__all__ = [
    "LARGEST",
    "MAX_ITER",
    "TOLERANCE",
    "UNBOUNDED",
    "Array",
    "Constraints",
    "Hessian",
    "LastLayer",
    "Point",
    "Problem",
    "off_class_mask",
    "solve",
    "solve_near",
]
