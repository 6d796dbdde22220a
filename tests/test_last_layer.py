"""The last layer: its optimum and its certificate, against torch and scikit-learn."""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from sklearn_protopnet import solve_last_layer
from sklearn_protopnet._last_layer import Problem

PRECISE = {"tol": 1e-13, "max_iter": 20_000}


def random_problem(
    seed, *, n_images=20, n_classes=3, per_class=2, scale=1.0, separable=False, duplicated=False
):
    """Similarities as they are: positive, correlated, larger to prototypes of the own class."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n_images)])
    classes = np.repeat(np.arange(n_classes), per_class)
    common = rng.exponential(size=(len(labels), 1))
    own = labels[:, None] == classes
    similarities = common + rng.exponential(size=own.shape) * np.where(own, 1.5, 1.0)
    if separable:
        similarities += 9.0 * own
    if duplicated:
        similarities[:, 1::2] = similarities[:, : 2 * (len(classes) // 2) : 2]
    return {
        "similarities": scale * similarities,
        "y": labels,
        "prototype_classes": classes,
        "sample_weight": rng.uniform(0.2, 3.0, len(labels)),
        "coef_init": np.where(np.arange(n_classes)[:, None] == classes, 1.0, -0.5),
    }


def objective(problem, coef, l1_weight, l2_weight):
    """The objective as torch sees it, to be differentiated."""
    weights = torch.from_numpy(problem["sample_weight"])
    losses = nn.functional.cross_entropy(
        torch.from_numpy(problem["similarities"]) @ coef.T,
        torch.from_numpy(problem["y"]),
        reduction="none",
    )
    smooth = (weights * losses).sum() / weights.sum() + l2_weight / 2 * coef.square().sum()
    return smooth + l1_weight * coef[off_class(problem)].abs().sum()


def off_class(problem):
    n_classes = len(problem["coef_init"])
    return torch.from_numpy(np.arange(n_classes)[:, None] != problem["prototype_classes"])


def minimum_norm_subgradient(problem, coef, l1_weight, l2_weight):
    coef = torch.from_numpy(coef).requires_grad_()
    (smooth,) = torch.autograd.grad(objective(problem, coef, 0.0, l2_weight), coef)
    penalty = torch.from_numpy(np.where(off_class(problem), l1_weight, 0.0))
    toward_zero = smooth.sign() * (smooth.abs() - penalty).clamp_min(0)
    return torch.where(coef == 0, toward_zero, smooth + penalty * coef.sign()).detach()


def radius(solution, l2_weight):
    """Strong convexity: the minimiser is no farther away than this."""
    return math.sqrt(2 * solution.gap / l2_weight)


PROBLEMS = st.builds(
    random_problem,
    st.integers(0, 2**32),
    n_images=st.integers(0, 25),
    n_classes=st.integers(2, 4),
    per_class=st.integers(1, 3),
    scale=st.sampled_from([-1.0, 0.1, 1.0, 3.0]),
    separable=st.booleans(),
    duplicated=st.booleans(),
)
L1_WEIGHTS = st.sampled_from([0.0, 1e-4, 1e-3, 0.03, 1e3, math.inf])


def solve_a_little(problem, max_iter, **penalties):
    """The solver's state after so many iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solve_last_layer(**problem, tol=0.0, max_iter=max_iter, **penalties)


class TestOptimality:
    @given_settings(max_examples=60)
    @given(PROBLEMS, L1_WEIGHTS, st.sampled_from([1e-4, 0.01, 0.3]))
    def test_the_solution_satisfies_its_optimality_conditions(self, problem, l1, l2):
        solution = solve_last_layer(**problem, l1_weight=l1, l2_weight=l2, **PRECISE)
        coef = torch.from_numpy(solution.coef).requires_grad_()
        (gradient,) = torch.autograd.grad(objective(problem, coef, 0.0, l2), coef)
        off, tiny = off_class(problem), math.sqrt(2 * l2 * solution.gap) + 1e-12
        assert gradient[~off].abs().max() <= tiny
        assert gradient[off & (coef == 0)].abs().le(l1 + tiny).all()
        if l1 >= 1e3:
            assert (coef[off] == 0).all()
        moved = off & (coef != 0)
        assert (gradient[moved] + l1 * coef[moved].sign()).abs().le(tiny).all()
        assert solution.gap <= PRECISE["tol"] * solution.objective

    @given_settings(max_examples=40)
    @given(PROBLEMS, L1_WEIGHTS, st.integers(1, 60))
    def test_the_certificate_is_the_bound_of_strong_convexity(self, problem, l1, max_iter):
        solution = solve_a_little(problem, max_iter, l1_weight=l1, l2_weight=0.1)
        subgradient = minimum_norm_subgradient(problem, solution.coef, l1, 0.1)
        bound = subgradient.square().sum().item() / (2 * 0.1)
        assert solution.gap == pytest.approx(bound, rel=1e-6, abs=1e-26)

    @given_settings(max_examples=30)
    @given(PROBLEMS, L1_WEIGHTS, st.integers(1, 50))
    def test_the_certified_gap_is_never_below_the_true_one(self, problem, l1, max_iter):
        hasty = solve_a_little(problem, max_iter, l1_weight=l1, l2_weight=0.05)
        best = solve_last_layer(**problem, l1_weight=l1, l2_weight=0.05, **PRECISE)
        rounding = 1e-14 * hasty.objective
        difference = hasty.objective - best.objective
        assert -best.gap - rounding <= difference <= hasty.gap + rounding
        away = np.linalg.norm(hasty.coef - best.coef)
        assert away <= radius(hasty, 0.05) + radius(best, 0.05)

    def test_the_objective_is_the_papers_with_a_ridge(self):
        problem = random_problem(0)
        solution = solve_a_little(problem, 7, l1_weight=0.01, l2_weight=0.2)
        expected = objective(problem, torch.from_numpy(solution.coef), 0.01, 0.2).item()
        assert solution.objective == pytest.approx(expected, rel=1e-14)

    def test_no_point_nearby_is_better(self):
        problem, rng = random_problem(1), np.random.default_rng(0)
        solution = solve_last_layer(**problem, l1_weight=0.01, l2_weight=0.1, **PRECISE)
        for scale in np.logspace(-6, 1, 50):
            other = solution.coef + scale * rng.normal(size=solution.coef.shape)
            found = objective(problem, torch.from_numpy(other), 0.01, 0.1).item()
            assert found >= solution.objective - solution.gap

    def test_the_start_does_not_matter(self):
        problem = random_problem(2)
        one = solve_last_layer(**problem, l1_weight=1e-3, l2_weight=0.1, **PRECISE)
        start = np.random.default_rng(0).normal(scale=30, size=one.coef.shape)
        other = solve_last_layer(
            **{**problem, "coef_init": start}, l1_weight=1e-3, l2_weight=0.1, **PRECISE
        )
        assert np.linalg.norm(one.coef - other.coef) <= radius(one, 0.1) + radius(other, 0.1)


def random_bounds(problem, seed):
    """Boxes of every kind, some of them a point, some of them open."""
    rng = np.random.default_rng(seed)
    shape = problem["coef_init"].shape
    centre, half = rng.normal(size=shape), rng.exponential(size=shape)
    kind = rng.integers(0, 5, shape)
    lower = np.select([kind == 0, kind == 1, kind == 2], [0.0, centre - half, centre], -np.inf)
    upper = np.select([kind == 0, kind == 1, kind == 3], [0.0, centre + half, centre], np.inf)
    return lower, upper


class TestBounds:
    @given_settings(max_examples=60)
    @given(PROBLEMS, st.sampled_from([0.0, 1e-3, 0.03]), st.integers(0, 2**16))
    def test_the_solution_satisfies_its_optimality_conditions(self, problem, l1, seed):
        """Of weights that a bound holds, the derivative points out of the box."""
        lower, upper = random_bounds(problem, seed)
        found = solve_last_layer(
            **problem, l1_weight=l1, l2_weight=0.05, bounds=(lower, upper), **PRECISE
        )
        assert (lower <= found.coef).all()
        assert (found.coef <= upper).all()
        coef = torch.from_numpy(found.coef).requires_grad_()
        (gradient,) = torch.autograd.grad(objective(problem, coef, 0.0, 0.05), coef)
        penalty = np.where(off_class(problem), l1, 0.0)
        below = gradient.numpy() + np.where(found.coef > 0, penalty, -penalty)  # to the left
        above = gradient.numpy() + np.where(found.coef < 0, -penalty, penalty)  # to the right
        tiny = math.sqrt(2 * 0.05 * found.gap) + 1e-10
        assert (below[found.coef > lower] <= tiny).all()
        assert (above[found.coef < upper] >= -tiny).all()

    @given_settings(max_examples=30)
    @given(PROBLEMS, st.integers(0, 2**16), st.integers(1, 50))
    def test_the_certified_gap_is_never_below_the_true_one(self, problem, seed, max_iter):
        given = {**problem, "l1_weight": 1e-3, "l2_weight": 0.05}
        given["bounds"] = random_bounds(problem, seed)
        best = solve_last_layer(**given, **PRECISE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            hasty = solve_last_layer(**given, tol=0.0, max_iter=max_iter)
        difference = hasty.objective - best.objective
        rounding = 1e-13 * hasty.objective
        assert -best.gap - rounding <= difference <= hasty.gap + rounding

    def test_a_column_of_zeros_is_no_column(self):
        problem = random_problem(5)
        bound = np.full((3, 6), np.inf)
        bound[:, [1, 4]] = 0.0
        penalties = {"l1_weight": 1e-3, "l2_weight": 0.05, **PRECISE}
        found = solve_last_layer(**problem, bounds=(-bound, bound), **penalties)
        kept = [0, 2, 3, 5]
        problem["coef_init"] = problem["coef_init"][:, kept]
        problem["similarities"] = problem["similarities"][:, kept]
        problem["prototype_classes"] = problem["prototype_classes"][kept]
        without = solve_last_layer(**problem, **penalties)
        np.testing.assert_allclose(found.coef[:, kept], without.coef, atol=1e-5)
        assert not found.coef[:, [1, 4]].any()
        assert found.objective == pytest.approx(without.objective, rel=1e-12)

    def test_no_bound_is_the_same_to_the_last_bit(self):
        problem = random_problem(6)
        one = solve_last_layer(**problem, l1_weight=1e-3, l2_weight=0.05)
        other = solve_last_layer(
            **problem, l1_weight=1e-3, l2_weight=0.05, bounds=(-np.inf, np.full((3, 6), np.inf))
        )
        assert np.array_equal(one.coef, other.coef)

    @pytest.mark.parametrize(
        "bounds",
        [
            (1.0, 0.0),
            (0.0, 1.0, 2.0),
            (np.zeros((2, 6)), 1.0),
            (np.nan, 1.0),
            ("low", "high"),
            (np.inf, np.inf),
            (1e60, np.inf),
            (-np.inf, -1e60),
        ],
        ids=str,
    )
    def test_bounds_that_leave_nothing_are_errors(self, bounds):
        with pytest.raises(ValueError, match="bounds must be two numbers, or arrays of shape"):
            solve_last_layer(**random_problem(0), l1_weight=0.1, l2_weight=0.1, bounds=bounds)


class TestWeights:
    def test_a_weight_counts_like_repetitions(self):
        problem = random_problem(3)
        weights = np.random.default_rng(0).integers(0, 4, len(problem["y"]))
        weights[:3] = 1
        index = np.repeat(np.arange(len(weights)), weights)
        repeated = {
            **problem,
            "similarities": problem["similarities"][index],
            "y": problem["y"][index],
            "sample_weight": np.ones(len(index)),
        }
        weighted = {**problem, "sample_weight": weights.astype(float)}
        one, other = (
            solve_last_layer(**data, l1_weight=0.01, l2_weight=0.1, **PRECISE)
            for data in (weighted, repeated)
        )
        assert np.linalg.norm(one.coef - other.coef) <= radius(one, 0.1) + radius(other, 0.1)
        assert one.objective == pytest.approx(other.objective, rel=1e-12)

    def test_only_the_ratios_of_weights_matter(self):
        problem = random_problem(4)
        one, other = (
            solve_last_layer(
                **{**problem, "sample_weight": factor * problem["sample_weight"]},
                l1_weight=0.01,
                l2_weight=0.1,
                **PRECISE,
            )
            for factor in (1, 1000)
        )
        assert np.linalg.norm(one.coef - other.coef) <= radius(one, 0.1) + radius(other, 0.1)


class TestPenalties:
    def test_a_huge_l1_weight_gives_exact_zeros_off_class_only(self):
        problem = random_problem(5)
        solution = solve_last_layer(**problem, l1_weight=1e3, l2_weight=1e-3, **PRECISE)
        off = off_class(problem).numpy()
        assert (solution.coef[off] == 0).all()
        assert (solution.coef[~off] != 0).all()

    def test_zeros_appear_before_convergence(self):
        problem = random_problem(5)
        solution = solve_a_little(problem, 1, l1_weight=1e3, l2_weight=1e-3)
        assert (solution.coef[off_class(problem).numpy()] == 0).all()
        assert solution.n_iter == 1

    @pytest.mark.parametrize("n_classes", [2, 3, 5])
    @pytest.mark.parametrize("l2", [1e-2, 1.0])
    def test_without_l1_it_is_scikit_learns_logistic_regression(self, n_classes, l2):
        problem = random_problem(6, n_classes=n_classes, n_images=40)
        weights = problem["sample_weight"]
        solution = solve_last_layer(**problem, l1_weight=0.0, l2_weight=l2, **PRECISE)
        # scikit-learn's objective is C sum w_i loss_i + |W|^2 / 2. For two classes it has one
        # vector v, where ours are -v / 2 and v / 2, whose ridge is half as large.
        strength = 1 / (l2 * weights.sum()) * (2 if n_classes == 2 else 1)
        model = LogisticRegression(
            C=strength, fit_intercept=False, solver="newton-cholesky", tol=1e-12
        ).fit(problem["similarities"], problem["y"], sample_weight=weights)
        theirs = model.coef_
        if n_classes == 2:
            theirs = np.concatenate([-theirs, theirs]) / 2
        assert np.linalg.norm(solution.coef - theirs) <= radius(solution, l2) + 1e-8

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize(("l1", "l2"), [(0.02, 0.05), (0.1, 0.01), (0.3, 0.3)])
    def test_with_all_weights_penalised_it_is_scikit_learns_elastic_net(self, n_classes, l1, l2):
        problem = random_problem(6, n_classes=n_classes, n_images=40)
        weights, mask = problem["sample_weight"], np.ones_like(problem["coef_init"], dtype=bool)
        solution = solve_last_layer(
            **problem, l1_weight=l1, l2_weight=l2, penalty_mask=mask, tol=1e-16
        )
        similarities, labels = problem["similarities"], problem["y"]
        distance = radius(solution, l2)
        if n_classes == 2:  # one vector v there, -v / 2 and v / 2 here: half the ridge, all of l1
            l2 /= 2
        model = LogisticRegression(
            C=1 / ((l1 + l2) * weights.sum()),
            l1_ratio=l1 / (l1 + l2),
            fit_intercept=False,
            solver="saga",
            tol=1e-13,
            max_iter=100_000,
            random_state=0,
        ).fit(similarities, labels, sample_weight=weights)
        theirs = model.coef_
        if n_classes == 2:
            theirs = np.concatenate([-theirs, theirs]) / 2
        assert np.array_equal(solution.coef == 0, np.abs(theirs) < 1e-9)
        assert np.linalg.norm(solution.coef - theirs) <= distance + 1e-8

    def test_penalised_weights_are_those_of_the_mask(self):
        problem, mask = random_problem(10), np.zeros((3, 6), dtype=bool)
        mask[1, 2:5] = True
        solution = solve_last_layer(
            **problem, l1_weight=math.inf, l2_weight=0.1, penalty_mask=mask, **PRECISE
        )
        assert np.array_equal(solution.coef == 0, mask)

    def test_own_prototypes_alone_are_optimal_from_the_largest_derivative_on(self):
        problem, off = random_problem(11), off_class(random_problem(11))
        own = solve_last_layer(**problem, l1_weight=math.inf, l2_weight=0.1, **PRECISE)
        coef = torch.from_numpy(own.coef).requires_grad_()
        (gradient,) = torch.autograd.grad(objective(problem, coef, 0.0, 0.1), coef)
        largest = gradient[off].abs().max().item()
        for factor, expected in ((1.001, 0), (0.999, 1)):
            solution = solve_last_layer(
                **problem, l1_weight=factor * largest, l2_weight=0.1, **PRECISE
            )
            assert np.count_nonzero(solution.coef[off.numpy()]) == expected


class TestNumerics:
    @pytest.mark.parametrize("scale", [1e-8, 1e4, -1e4, 1e8])
    def test_similarities_of_any_size_are_solved(self, scale):
        problem = random_problem(7, scale=scale)
        solution = solve_last_layer(**problem, l1_weight=1e-4, l2_weight=1e-3)
        assert solution.gap <= 1e-6 * solution.objective

    @pytest.mark.parametrize("weight", [1e-300, 1e308])
    def test_weights_of_any_size_are_relative(self, weight):
        problem = random_problem(7)
        problem["sample_weight"] = np.full(len(problem["y"]), weight)
        equal = {**problem, "sample_weight": None}
        one, other = (
            solve_last_layer(**data, l1_weight=1e-3, l2_weight=1e-2) for data in (problem, equal)
        )
        assert np.array_equal(one.coef, other.coef)

    def test_a_start_whose_objective_overflows_is_not_taken(self):
        problem = random_problem(7)
        problem["coef_init"] = np.where(off_class(problem), -5.0, 1.0)
        solution = solve_last_layer(**problem, l1_weight=1e308, l2_weight=1e-2)
        assert (solution.coef[off_class(problem).numpy()] == 0).all()
        assert solution.gap <= 1e-6 * solution.objective

    def test_a_class_without_images_wins_nowhere(self):
        problem = random_problem(8)
        kept = problem["y"] != 2
        problem |= {name: problem[name][kept] for name in ("similarities", "y", "sample_weight")}
        solution = solve_last_layer(**problem, l1_weight=0.0, l2_weight=1e-2, **PRECISE)
        logits = problem["similarities"] @ solution.coef.T
        assert (logits.argmax(1) != 2).all()

    def test_it_stops_at_the_gap_that_is_asked_for(self):
        problem, iterations = random_problem(9), []
        for tol in (1e-2, 1e-4, 1e-8):
            solution = solve_last_layer(**problem, l1_weight=1e-3, l2_weight=1e-2, tol=tol)
            assert solution.gap <= tol * solution.objective
            iterations.append(solution.n_iter)
        assert iterations == sorted(iterations)
        assert iterations[0] < iterations[-1] < 2000

    @pytest.mark.parametrize("factor", [1.0, 100.0, 1e6, 1e200])
    def test_a_bad_start_costs_nothing(self, factor):
        problem = random_problem(12)
        penalties = {"l1_weight": 1e-3, "l2_weight": 1e-4}
        cold = solve_last_layer(**{**problem, "coef_init": None}, **penalties)
        start = np.random.default_rng(0).normal(scale=factor, size=cold.coef.shape)
        warm = solve_last_layer(**{**problem, "coef_init": start}, **penalties)
        assert warm.n_iter <= cold.n_iter + 20

    @pytest.mark.parametrize("change", [lambda s: s + 100, lambda s: 1000 * s, lambda s: s - 3])
    @pytest.mark.parametrize(("l1", "l2"), [(1e-3, 3e-4), (1e-4, 1e-5), (0.0, 1e-4)])
    def test_a_common_part_of_the_similarities_is_no_obstacle(self, change, l1, l2):
        problem = random_problem(16, n_images=60, per_class=3)
        problem["similarities"] = change(problem["similarities"])
        solution = solve_last_layer(**problem, l1_weight=l1, l2_weight=l2, max_iter=600)
        assert solution.gap <= 1e-6 * solution.objective

    @given(PROBLEMS, L1_WEIGHTS, st.integers(0, 2**32))
    def test_balanced_weights_cost_least_and_change_no_probability(self, problem, l1, seed):
        mask = off_class(problem).numpy()
        stated = Problem(
            similarities=problem["similarities"],
            labels=problem["y"],
            weights=problem["sample_weight"],
            penalty_mask=mask,
            l1_weight=l1,
            l2_weight=0.01,
        )
        rng = np.random.default_rng(seed)
        coef = rng.normal(size=mask.shape) * (rng.random(mask.shape) < 0.7)
        start = stated.point(np.where(np.isinf(stated.penalties), 0.0, coef))
        end = stated.balanced(start)
        np.testing.assert_allclose(end.probabilities, start.probabilities, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(end.logits, stated.point(end.coef).logits, rtol=1e-9, atol=1e-9)
        if np.isinf(l1):
            assert np.array_equal(end.coef, start.coef)
            return
        kinks = np.concatenate([-start.coef, rng.normal(size=mask.shape)])

        def cost(coef):
            return (stated.penalties * np.abs(coef) + 0.005 * coef**2).sum(0)

        for shift in (*kinks, *(end.coef[0] - start.coef[0] + kinks * 1e-6)):
            assert (cost(end.coef) <= cost(start.coef + shift) * (1 + 1e-12)).all()

    @pytest.mark.parametrize("length", [1e-7, 1e-3, 1.0, 30.0, 1e4])
    def test_the_divergence_is_the_excess_over_the_tangent(self, length):
        problem, rng = random_problem(17), np.random.default_rng(0)
        stated = Problem(
            similarities=problem["similarities"],
            labels=problem["y"],
            weights=problem["sample_weight"],
            penalty_mask=np.zeros((3, 6), dtype=bool),
            l1_weight=0.0,
            l2_weight=0.01,
        )
        start = stated.point(rng.normal(size=(3, 6)))
        move = length * rng.normal(size=(3, 6))
        end = stated.point(start.coef + move)
        if length < 0.1:  # the integral of the gradient's change, which rounding leaves alone
            times, weights = np.polynomial.legendre.leggauss(6)
            changes = [
                stated.smooth_gradient(stated.point(start.coef + (time + 1) / 2 * move))
                - stated.smooth_gradient(start)
                for time in times
            ]
            exact = np.vdot(np.tensordot(weights / 2, changes, 1), move)
        else:
            exact = stated.objective(end) - stated.objective(start)
            exact -= np.vdot(stated.smooth_gradient(start), move)
        assert stated.divergence(start, end) == pytest.approx(exact, rel=1e-7)

    def test_a_warm_start_is_quicker(self):
        problem = random_problem(12)
        del problem["coef_init"]
        cold = solve_last_layer(**problem, l1_weight=1e-3, l2_weight=1e-2)
        warm = solve_last_layer(**problem, l1_weight=1e-3, l2_weight=1e-2, coef_init=cold.coef)
        assert warm.n_iter == 0
        assert np.array_equal(warm.coef, cold.coef)
        near = solve_last_layer(**problem, l1_weight=1.1e-3, l2_weight=1e-2, coef_init=cold.coef)
        assert near.n_iter < cold.n_iter

    def test_it_is_deterministic_whatever_the_threads(self):
        problem = random_problem(13, n_images=300, per_class=20)
        solutions = []
        for limit in (1, 2, 1):
            with threadpool_limits(limit):
                solutions.append(solve_last_layer(**problem, l1_weight=1e-3, l2_weight=1e-3))
        assert len({solution.coef.tobytes() for solution in solutions}) == 1

    def test_threads_that_solve_at_once_leave_the_limits_as_they_were(self):
        problem = random_problem(18, n_images=200, per_class=10)

        def solve_in_a_thread(tol):
            return solve_last_layer(**problem, l1_weight=1e-3, l2_weight=1e-3, tol=tol)

        with threadpool_limits(2):
            before = [pool["num_threads"] for pool in threadpool_info()]
            with ThreadPoolExecutor(4) as executor:
                solutions = list(executor.map(solve_in_a_thread, [1e-4, 1e-9, 1e-7, 1e-4]))
            assert [pool["num_threads"] for pool in threadpool_info()] == before
        assert solutions[0].coef.tobytes() == solutions[3].coef.tobytes()

    def test_the_users_threads_are_left_alone(self):
        problem = random_problem(14)
        before = [pool["num_threads"] for pool in threadpool_info()]
        solve_last_layer(**problem, l1_weight=1e-3, l2_weight=1e-3)
        assert [pool["num_threads"] for pool in threadpool_info()] == before


class TestArguments:
    def test_a_budget_that_ends_first_names_the_gap_that_was_reached(self):
        problem = random_problem(15)
        with pytest.warns(ConvergenceWarning, match="in 3 iterations") as caught:
            solution = solve_last_layer(**problem, l1_weight=1e-3, l2_weight=1e-3, max_iter=3)
        assert f"within {solution.gap:.3g} of" in str(caught[0].message)
        assert caught[0].filename == __file__
        assert not solution.converged
        assert solution.n_iter == 3

    def test_lists_and_integers_will_do(self):
        solution = solve_last_layer(
            [[3, 0], [0, 3]], [0, 1], [0, 1], l1_weight=0, l2_weight=1, coef_init=[[1, 0], [0, 1]]
        )
        assert solution.coef.dtype == np.float64
        assert solution.coef[0, 0] == pytest.approx(solution.coef[1, 1])

    def test_classes_without_images_or_prototypes_have_their_rows(self):
        penalties = {"l1_weight": 1e-3, "l2_weight": 0.1}
        two = [[1.0, 0.0], [0.0, 1.0]]
        assert solve_last_layer(two, [0, 1], [0, 3], **penalties).coef.shape == (4, 2)
        assert solve_last_layer(two, [0, 3], [0, 1], **penalties).coef.shape == (4, 2)
        start = np.zeros((5, 2))
        assert solve_last_layer(two, [0, 1], [0, 1], **penalties, coef_init=start).coef.shape == (
            5,
            2,
        )

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"similarities": [[np.nan, 1.0], [1.0, 0.0]]}, "similarities contains NaN"),
            ({"similarities": [1.0, 2.0]}, "Expected 2D array"),
            ({"y": [0]}, "inconsistent numbers of samples"),
            ({"y": [0, -1]}, "y must hold indices of classes, .* got .*-1"),
            ({"y": [0.0, 1.0]}, "y must hold indices of classes"),
            ({"y": ["a", "b"]}, "y must hold indices of classes"),
            ({"prototype_classes": [[0, 1]]}, "^prototype_classes must .* shape"),
            ({"prototype_classes": [0]}, "each of the 2 columns of similarities, got 1"),
            ({"prototype_classes": [0.5, 1]}, "prototype_classes must hold indices"),
            ({"coef_init": [[0.0, 0.0]]}, r"coef_init must have shape \(2, 2\), got \(1, 2\)"),
            ({"coef_init": [[0.0], [0.0]]}, r"coef_init must have shape \(2, 2\), got \(2, 1\)"),
            (
                {"similarities": [[1e51, 0.0], [0.0, 1.0]]},
                r"not be larger than 1e\+50, got 1e\+51",
            ),
            ({"penalty_mask": [[0.0, 1.0], [1.0, 0.0]]}, "penalty_mask must .* booleans"),
            ({"penalty_mask": [True, False]}, "penalty_mask must .* booleans"),
            ({"penalty_mask": [[True]]}, r"penalty_mask must have shape \(2, 2\)"),
            ({"sample_weight": [0.0, 0.0]}, "at least one non-zero number"),
            ({"sample_weight": [-1.0, 2.0]}, "Negative values"),
            ({"l1_weight": -1.0}, "'l1_weight' parameter"),
            ({"l2_weight": 0.0}, "'l2_weight' parameter"),
            ({"tol": -1.0}, "'tol' parameter"),
            ({"max_iter": 0}, "'max_iter' parameter"),
        ],
    )
    def test_bad_arguments_are_refused(self, changes, message):
        arguments = {
            "similarities": [[1.0, 0.0], [0.0, 1.0]],
            "y": [0, 1],
            "prototype_classes": [0, 1],
            "l1_weight": 1e-3,
            "l2_weight": 1e-3,
        }
        with pytest.raises(ValueError, match=message):
            solve_last_layer(**{**arguments, **changes})
