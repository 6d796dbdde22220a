"""
A classifier that gives its reasons
===================================

What ``make demo`` runs: train on scikit-learn's handwritten digits with default settings, score
on held-out images, explain one prediction, and write all the evidence to ``demo_output/``.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import ExplanationDisplay

FOLDER = Path("demo_output")
SHOWN = 4


def choose_sample(evidence, y):
    """Choose an image whose explanation is easy to read: `SHOWN` different parts say nearly all.

    Among the correct, confident predictions whose first boxes differ, it is the one of whose
    logit all other prototypes hold the smallest share.
    """
    first = evidence[evidence["rank"] == 1].set_index("sample")
    shown = evidence[evidence["rank"] <= SHOWN]
    n_boxes = shown.drop_duplicates(["sample", "y0", "y1", "x0", "x1"])["sample"].value_counts()
    rest = (1 - shown.groupby("sample")["contribution"].sum() / first["logit"]).abs()
    is_clear = (first["class"] == y) & (first["probability"] > 0.99) & (n_boxes == SHOWN)
    return int(rest.where(is_clear, np.inf).idxmin())


def main():
    mpl.use("Agg")  # pictures go to files
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

    print(f"Training on {len(X_train)} images of 8 x 8 pixels ...")
    clf = ProtoPNetClassifier(image_shape=(8, 8), random_state=0, verbose=1).fit(X_train, y_train)
    print(f"Accuracy on {len(X_test)} held-out images: {clf.score(X_test, y_test):.3f}\n")

    evidence = clf.explain(X_test)
    sample = choose_sample(evidence, y_test)
    why = evidence[evidence["sample"] == sample]
    prediction = why.iloc[0]
    print(
        f"Test image {sample}: predicted {prediction['class']}, is {y_test[sample]}; "
        f"probability {prediction['probability']:.4f}, logit {prediction['logit']:.2f}."
    )
    print(f"The {SHOWN} prototypes that add most to the logit, of {len(why)}:\n")
    columns = {
        "prototype": "prototype",
        "prototype_class": "of class",
        "source_sample": "training row",
        "similarity": "similarity",
        "weight": "weight",
        "contribution": "contribution",
    }
    table = why.head(SHOWN)[list(columns)].rename(columns=columns)
    print(table.to_string(index=False, float_format="{:.3f}".format, col_space=11))
    shown = why["contribution"].head(SHOWN).sum()
    others = why["contribution"].iloc[SHOWN:].sum()
    print(
        f"\nThese add {shown:.3f}, the {len(why) - SHOWN} others {others:.3f}: "
        f"together the logit, {shown + others:.3f}.\n"
    )

    FOLDER.mkdir(exist_ok=True)
    prototypes = clf.prototype_table()
    display = ExplanationDisplay.from_estimator(
        clf, X_test, sample=sample, top_k=SHOWN, image_name=f"test image {sample}"
    )
    evidence.to_csv(FOLDER / "evidence.csv", index=False)
    prototypes.to_csv(FOLDER / "prototypes.csv", index=False)
    display.figure_.savefig(FOLDER / "explanation.png", dpi=100)
    print("Wrote")
    print(f"  {FOLDER / 'evidence.csv'}     why: {len(evidence):,} rows, all test images")
    print(f"  {FOLDER / 'prototypes.csv'}   what: the {len(prototypes)} prototypes")
    print(f"  {FOLDER / 'explanation.png'}  the explanation above as a picture")


if __name__ == "__main__":
    main()
