"""
Choosing depth and cost weights with GridSearchCV
=================================================

The paper chooses the depth of the latent patches by cross-validation and fixes the weights of
the cluster and separation costs. All of them are constructor parameters, so that
:class:`~sklearn.model_selection.GridSearchCV` searches over them like over any others.
"""

# %%
# The search
# ----------
# It is kept small on purpose: 300 images, two folds, short fits. The random state is an integer,
# so that all candidates start alike and the differences come from the parameters.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from sklearn_protopnet import ProtoPNetClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=300, stratify=y, random_state=0
)
search = GridSearchCV(
    ProtoPNetClassifier(
        image_shape=(8, 8), n_prototypes_per_class=3, pretraining_epochs=8, random_state=0
    ),
    {
        "prototype_depth": [8, 32],
        "cluster_weight": [0.0, 0.8],
        "separation_weight": [0.0, 0.08],
    },
    cv=2,
).fit(X_train, y_train)
print("Best parameters:", search.best_params_)
print(f"Accuracy on {len(X_test)} images that the search has not seen: ", end="")
print(f"{search.score(X_test, y_test):.3f}")

# %%
# The results as a table
# ----------------------

names = ["prototype_depth", "cluster_weight", "separation_weight"]
results = pd.DataFrame(search.cv_results_).rename(columns=lambda name: name.removeprefix("param_"))
columns = [*names, "mean_test_score", "std_test_score", "mean_fit_time", "rank_test_score"]
results[columns].sort_values("rank_test_score")

# %%
# The results as a picture
# ------------------------
# Each bar is the mean over the folds, each line the range from the worst fold to the best one.
# Where the lines overlap, the search has not told the candidates apart.

folds = results[["split0_test_score", "split1_test_score"]].to_numpy()  # (candidates, folds)
labels = [
    f"depth {depth}, cluster {cluster}, separation {separation}"
    for depth, cluster, separation in results[names].itertuples(index=False)
]
rows = np.arange(len(results))
_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.barh(rows, folds.mean(axis=1), color="tab:blue", alpha=0.6)
ax.hlines(rows, folds.min(axis=1), folds.max(axis=1), color="black")
ax.set(yticks=rows, yticklabels=labels, xlabel="accuracy", xlim=(folds.min() - 0.05, 1))
ax.invert_yaxis()
plt.show()

# %%
# What the winner costs
# ---------------------
# The best estimator is fitted anew on all 300 images and explains itself like any other. Accuracy
# is not the only thing to look at: prototypes that repeat each other explain nothing new.

table = search.best_estimator_.prototype_table()
print(f"{len(table)} prototypes, {(table['n_duplicates'] > 0).sum()} of them with a duplicate")
