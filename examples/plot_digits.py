"""
Why is this a three?
====================

A classifier of handwritten digits that gives its reasons. We fit it, score it, ask why one
image was classified as it was, and look at everything that the classifier compares images to.
"""

# %%
# Fit and score
# -------------
# `X` is an array of images here, ``(n, 8, 8)``; rows of 64 numbers do as well. The fit is kept
# short: 5 prototypes for each digit, 32 channels.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import ExplanationDisplay, PrototypeDisplay

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, stratify=digits.target, random_state=0
)
clf = ProtoPNetClassifier(n_prototypes_per_class=5, prototype_depth=32, random_state=0).fit(
    X_train, y_train
)
print(f"Accuracy on {len(X_test)} test images: {clf.score(X_test, y_test):.3f}")

# %%
# One image, explained
# --------------------
# `explain` has one row for every prototype. A contribution is a weight times a similarity, and
# a similarity says how much the most similar patches of the image, five by default, look like the
# prototype.

sample = int((y_test == 3).argmax())
image = X_test[sample : sample + 1]
why = clf.explain(image)
why[["prototype", "prototype_class", "similarity", "weight", "contribution"]].head()

# %%
# The contributions of all prototypes add up to the logit of the class: nothing is left out.

print(f"Predicted: {why['class'][0]}, with probability {why['probability'][0]:.4f}")
print(f"Sum of {len(why)} contributions: {why['contribution'].sum():.6f}")
print(f"Logit: {why['logit'][0]:.6f}")

# %%
# The same as a picture. On each line: the patch of the image, the patch of the training image
# that it looks like, and what that adds to the logit.

ExplanationDisplay.from_estimator(clf, X_test, sample=sample, top_k=4)
plt.show()

# %%
# And why is it no eight? Any other class can be asked about in the same way.

ExplanationDisplay.from_estimator(clf, X_test, sample=sample, class_label=8, top_k=4)
plt.show()

# %%
# All prototypes
# --------------
# Every prototype *is* a patch of a training image, at distance 0, so that all of them can be
# shown.

PrototypeDisplay.from_estimator(clf)
plt.show()

# %%
# As a table, with the row of `X_train` and the pixels that each one is taken from:

clf.prototype_table().iloc[:, :9].head()

# %%
# How the training went
# ---------------------
# A projection replaces each prototype by the nearest patch. What that costs is the training
# accuracy before it, minus the accuracy before the last layer is solved anew.

history = clf.history_table()
steps = history[history["stage"].isin(["projection", "last_layer"])]
steps[["round", "stage", "epoch", "accuracy_before", "accuracy", "gap"]]
