"""
How sparse can the reasons be?
==============================

Every prototype may add to the logit of every class. The l1 penalty of the last layer sets most of
the weights between a class and *other* classes' prototypes to exactly zero, which makes
explanations shorter. How many weights are needed? The path of the last layer answers that without
training the network again.
"""

# %%
# A classifier
# ------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import LastLayerPathDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_train, X_val, y_train, y_val = train_test_split(
    X_train, y_train, stratify=y_train, random_state=0
)
clf = ProtoPNetClassifier(image_shape=(8, 8), n_prototypes_per_class=5, random_state=0)
clf.fit(X_train, y_train)
print(f"The objective of the last layer is within {clf.last_layer_gap_:.1e} of its minimum.")

# %%
# The path
# --------
# From left to right the penalty falls, and the share of the weights that are not zero rises from
# none to all.

display = LastLayerPathDisplay.from_estimator(clf, X_train, y_train, X_val=X_val, y_val=y_val)
plt.show()

# %%
# The same as a table:

path = display.path
path.iloc[::5]

# %%
# A choice
# --------
# The sparsest last layer whose validation accuracy is at most one point below the best one:

good_enough = path["validation_score"] >= path["validation_score"].max() - 0.01
chosen = path[good_enough].iloc[0]
print(chosen)

# %%
# The refit takes the penalty; the prototypes stay what they are.

before = clf.coef_
print(f"Test accuracy before: {clf.score(X_test, y_test):.3f}")
clf.refit_last_layer(X_train, y_train, l1_weight=chosen["l1_weight"])
print(f"Test accuracy after:  {clf.score(X_test, y_test):.3f}")

# %%
# All reasons before and after: each column is a prototype, each row a class, and white is exactly
# zero.

largest = np.abs(before).max()
_, axes = plt.subplots(2, 1, figsize=(7, 4.5), sharex=True, layout="constrained")
for ax, coef, title in zip(axes, (before, clf.coef_), ("defaults", "chosen"), strict=True):
    image = ax.imshow(coef, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto")
    n_zero = np.mean(coef == 0)
    ax.set(title=f"{title}: {n_zero:.0%} of the weights are zero", ylabel="class")
axes[1].set_xlabel("prototype")
plt.colorbar(image, ax=axes, label="weight")
plt.show()
