"""What all predictions of one network, or of several, are made of: logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.utils.extmath import softmax


class LogitClassifierMixin(ABC):
    """Predictions of a classifier that computes logits."""

    @abstractmethod
    def _logits(self, X: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Compute the labels (K,) and the logits of images (n, K), both of one moment."""

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict class labels.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,)
            The class with the largest logit.
        """
        classes, logits = self._logits(X)
        labels: NDArray[Any] = classes[logits.argmax(1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict class probabilities: the softmax of the logits.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_classes)
            Columns are in the order of `classes_`.
        """
        probabilities: NDArray[np.float64] = softmax(self._logits(X)[1])
        return probabilities

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict logarithms of class probabilities.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_classes)
            Columns are in the order of `classes_`. Finite where a probability is too small for
            a number.
        """
        logarithms: NDArray[np.float64] = log_softmax(self._logits(X)[1], axis=1)
        return logarithms

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Compute the logits.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_classes), or (n,) for two classes
            Each is the sum of the contributions of all prototypes, ``weight * similarity``; for
            two classes the second logit minus the first.
        """
        _, logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits
