"""What happens to an estimator when a check or a fit fails."""

import pytest
from sklearn.base import BaseEstimator

from sklearn_protopnet._validation import all_or_nothing


class TestAllOrNothing:
    @pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt])
    def test_a_failure_of_any_kind_puts_attributes_back(self, error):
        estimator = BaseEstimator()
        estimator.kept_, estimator.changed_ = 1, [2]
        before = dict(vars(estimator))

        def fail():
            with all_or_nothing(estimator):
                estimator.changed_, estimator.new_ = 3, 4
                del estimator.kept_
                raise error

        with pytest.raises(error):
            fail()
        assert vars(estimator) == before

    def test_success_keeps_what_is_new(self):
        estimator = BaseEstimator()
        with all_or_nothing(estimator):
            estimator.new_ = 4
        assert vars(estimator) == {"new_": 4}
