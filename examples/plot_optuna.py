"""
Accuracy against length of the reasons, with Optuna
===================================================

A classifier that explains itself has two aims that pull in different directions: it should be
right, and its reasons should be few. A search for one of them must guess what the other is worth.
A search for both gives all good compromises, and the choice among them is made afterwards, with
the prices in view. `Optuna <https://optuna.org>`_ searches for several aims at once. It is no
part of this package: ``pip install optuna``.
"""

# %%
# The two objectives
# ------------------
# The first is the accuracy. The second is the number of weights of the last layer that are not
# zero, for each class: so many prototypes may have a say in the logit of a class, its own and
# those of other classes, and an explanation of the class has so many rows that are not zero. Both
# are measured by cross-validation on the training images. The test images are not looked at until
# the end.

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_validate, train_test_split

from sklearn_protopnet import ProtoPNetClassifier

optuna.logging.set_verbosity(optuna.logging.WARNING)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)


def n_reasons(clf, *_):
    """Count the weights of a class that are not zero: a scorer, which needs no images."""
    return np.count_nonzero(clf.coef_, axis=1).mean()


# %%
# The search
# ----------
# ``n_prototypes_per_class`` belongs to the network. ``l1_weight`` and ``l2_weight`` belong to the
# last layer alone: the first makes weights zero, the second spreads them over more prototypes.
# With ``memory`` and an integer ``random_state``, a trial that differs from an earlier one in the
# penalties only finds the earlier one's networks, and solves for the last layer. Three numbers of
# prototypes and two folds are six networks, however many trials there are. Here the directory is
# a temporary one; one that stays serves the next search, too.

directory = TemporaryDirectory()
clf = ProtoPNetClassifier(
    image_shape=(8, 8),
    prototype_depth=32,
    pretraining_epochs=10,
    joint_epochs=10,
    memory=directory.name,
    random_state=0,
)


def objective(trial):
    """Accuracy and number of reasons of one set of parameters, means over the folds."""
    candidate = clf.set_params(
        n_prototypes_per_class=trial.suggest_categorical("n_prototypes_per_class", [2, 4, 8]),
        l1_weight=trial.suggest_float("l1_weight", 1e-5, 1e-1, log=True),
        l2_weight=trial.suggest_float("l2_weight", 1e-5, 1e-2, log=True),
    )
    scoring = {"accuracy": "accuracy", "reasons": n_reasons}
    scores = cross_validate(candidate, X_train, y_train, cv=2, scoring=scoring)
    trial.set_user_attr("fit_time", scores["fit_time"].sum())
    return scores["test_accuracy"].mean(), scores["test_reasons"].mean()


study = optuna.create_study(
    directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=0)
)
study.optimize(objective, n_trials=60)
trials = study.trials_dataframe(attrs=("values", "params", "user_attrs"))
trials = trials.rename(columns={"values_0": "accuracy", "values_1": "reasons"})
trials.columns = trials.columns.str.removeprefix("params_").str.removeprefix("user_attrs_")

# %%
# What the trials took
# --------------------
# The first trial with a number of prototypes trains a network for each fold. All others are
# short.

is_first = ~trials["n_prototypes_per_class"].duplicated()
for kind, mask in {"that train": is_first, "that do not": ~is_first}.items():
    print(f"{mask.sum()} trials {kind}: {trials.loc[mask, 'fit_time'].sum():.1f} s for their fits")

# %%
# The Pareto front
# ----------------
# A trial is on the front if no other one is as accurate with fewer reasons, or more accurate with
# as few. The rest can be forgotten.

front = trials.iloc[[trial.number for trial in study.best_trials]].sort_values("reasons")
front = front.drop_duplicates(["accuracy", "reasons"])
front[["accuracy", "reasons", "n_prototypes_per_class", "l1_weight", "l2_weight"]]

# %%
# The standard error of such an accuracy, of 600 images, is about one point: smaller steps of the
# front may be chance.

_, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.step(front["reasons"], front["accuracy"], where="post", color="black", label="Pareto front")
for n_prototypes, group in trials.groupby("n_prototypes_per_class"):
    ax.scatter(group["reasons"], group["accuracy"], s=20, label=f"{n_prototypes} of each class")
ax.set_xscale("log", base=2)
ax.xaxis.set_major_formatter("{x:g}")
ax.set(xlabel="prototypes with a say in a class", ylabel="accuracy, cross-validated")
ax.legend(title="prototypes", loc="lower right")
plt.show()

# %%
# A choice
# --------
# The fewest reasons whose accuracy is at most one point below the best, fitted anew on all training
# images. The test images have played no part so far.

chosen = front[front["accuracy"] >= front["accuracy"].max() - 0.01].iloc[0]
params = study.trials[chosen.name].params
print("Parameters:", params)
clf.set_params(**params).fit(X_train, y_train)
print(f"Test accuracy {clf.score(X_test, y_test):.3f}, {n_reasons(clf):.1f} reasons a class")
directory.cleanup()

# %%
# ``optuna.create_study(storage="sqlite:///search.db")`` keeps the trials on disk, so that a search
# goes on where it was interrupted, and several processes share it; they may share the directory
# of ``memory`` as well.
