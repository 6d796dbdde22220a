"""
In a pipeline
=============

Preprocessing, cross-validated predictions and a confusion matrix; then the similarities to the
prototypes as features of another model.
"""

# %%
# Preprocess, then classify
# -------------------------
# The first and the last column of the digits are nearly always blank. A
# :class:`~sklearn.preprocessing.FunctionTransformer` cuts them off; what remains are images of
# 8 x 6 pixels. Pixels need no scaling: `fit` learns mean and scale of each channel.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_protopnet import ProtoPNetClassifier


def without_margins(X):
    """Cut the first and the last column off images of 8 x 8 pixels."""
    return X.reshape(-1, 8, 8)[:, :, 1:-1].reshape(-1, 8 * 6)


X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, train_size=500, stratify=y, random_state=0)
pipeline = make_pipeline(
    FunctionTransformer(without_margins),
    ProtoPNetClassifier(
        image_shape=(8, 6),
        n_prototypes_per_class=4,
        prototype_depth=32,
        random_state=0,
    ),
)
pipeline

# %%
# Which digits are confused?
# --------------------------
# Every image is predicted by a pipeline that was fitted without it.

predicted = cross_val_predict(pipeline, X, y, cv=3)
print(f"Cross-validated accuracy: {accuracy_score(y, predicted):.3f}")
_, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
ConfusionMatrixDisplay.from_predictions(y, predicted, ax=ax, colorbar=False)
plt.show()

# %%
# Explanations behind a preprocessing step
# ----------------------------------------
# The classifier knows the images that it was given: a box is in pixels of the cropped image, and
# column 0 is column 1 of the original one.

pipeline.fit(X, y)
cropped = pipeline[:-1].transform(X_test[:1])
why = pipeline[-1].explain(cropped, top_k=3)
why[["class", "prototype", "contribution", "y0", "y1", "x0", "x1"]].assign(
    x0_original=why["x0"] + 1, x1_original=why["x1"] + 1
)

# %%
# Similarities as features
# ------------------------
# `transform` gives the similarity of an image to each prototype, so that the classifier stands
# in front of any other model. Here a logistic regression takes the place of the last layer.

stacked = make_pipeline(*pipeline, StandardScaler(), LogisticRegression()).fit(X, y)
print(f"Own last layer:      {pipeline.score(X_test, y_test):.3f}")
print(f"Logistic regression: {stacked.score(X_test, y_test):.3f}")

# %%
# The features have names, so that the coefficients of the other model can be read: for each digit
# the prototype with the largest one, and the digit that this prototype is a part of.

network, regression = stacked[1], stacked[-1]
largest = regression.coef_.argmax(axis=1)
names = network.get_feature_names_out()
pd.DataFrame(
    {
        "digit": regression.classes_,
        "feature": names[largest],
        "prototype_class": network.prototype_classes_[largest],
        "coefficient": regression.coef_[np.arange(len(largest)), largest],
    }
)
