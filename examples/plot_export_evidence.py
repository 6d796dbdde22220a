"""
Evidence in files and in SQL
============================

Explanations are tidy pandas tables. They go to files and databases, and questions
about hundreds of decisions become queries. Here: which prototypes decide wrong predictions?
"""

# %%
# A classifier that errs
# ----------------------
# Few training images, so that there are wrong predictions to ask about.

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import export_evidence, read_evidence

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, train_size=200, stratify=digits.target, random_state=0
)
clf = ProtoPNetClassifier(n_prototypes_per_class=4, prototype_depth=32, random_state=0).fit(
    X_train, y_train
)
print(f"Accuracy: {clf.score(X_test, y_test):.3f}")

# %%
# The evidence for every test image: one row per image and prototype, for the predicted class.

evidence = clf.explain(X_test)
truth = pd.DataFrame({"sample": range(len(X_test)), "truth": y_test})
print(f"{len(evidence):,} rows of {evidence.shape[1]} columns")

# %%
# To a file and back
# ------------------
# ``export_evidence`` explains some images at a time, so that any number of them can be written,
# and the file appears when it is whole. Its suffix says whether it is CSV, Parquet or SQLite. What
# is read back is the same to the last bit, and so is the sum of the contributions.

folder = tempfile.TemporaryDirectory()
database = Path(folder.name) / "evidence.sqlite"
export_evidence(clf, X_test, database)
again = read_evidence(database)
pd.testing.assert_frame_equal(again, evidence)
sums = again.groupby("sample")["contribution"].sum() - again.groupby("sample")["logit"].first()
print(f"Largest difference between a logit and its contributions: {sums.abs().max():.1e}")

# %%
# Other tables can stand beside it.

with closing(sqlite3.connect(database)) as connection:
    clf.prototype_table().to_sql("prototypes", connection, index=False)
    truth.to_sql("truth", connection, index=False)

# %%
# The question
# ------------
# For each prototype: how many predictions it decided, that is, how often its contribution was the
# largest one, and how many of those were wrong.

QUERY = """
    SELECT e.prototype,
           p.prototype_class,
           p.source_sample AS training_image,
           COUNT(*) AS decided,
           SUM(e.class <> t.truth) AS wrong,
           ROUND(AVG(e.class <> t.truth), 3) AS share_wrong
    FROM evidence AS e
    JOIN truth AS t ON t.sample = e.sample
    JOIN prototypes AS p ON p.prototype = e.prototype
    WHERE e.rank = 1
    GROUP BY e.prototype
    ORDER BY wrong DESC, e.prototype
    LIMIT 5
"""
with closing(sqlite3.connect(database)) as connection:
    culprits = pd.read_sql(QUERY, connection)
culprits

# %%
# The suspects
# ------------
# A prototype is a patch of a training image, so that the answer can be looked at: the prototype
# at the top of the list, and wrong predictions that it decided.

prototype = int(culprits["prototype"][0])
decided = evidence[(evidence["prototype"] == prototype) & (evidence["rank"] == 1)].merge(truth)
wrong = decided[decided["class"] != decided["truth"]].head(4).rename(columns={"class": "predicted"})


def show(ax, image, box, title):
    y0, y1, x0, x1 = box
    ax.imshow(image, cmap="gray_r")
    ax.add_patch(
        plt.Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="tab:red", lw=2)
    )
    ax.set(xticks=[], yticks=[], title=title)


_, axes = plt.subplots(1, 1 + len(wrong), figsize=(2 * (1 + len(wrong)), 2.4), layout="constrained")
title = f"prototype {prototype}\nof digit {clf.prototype_classes_[prototype]}"
source = X_train[clf.prototype_sample_indices_[prototype]]
show(axes[0], source, clf.prototype_boxes_[prototype], title)
for ax, row in zip(axes[1:], wrong.itertuples(), strict=True):
    title = f"predicted {row.predicted}\nis {row.truth}"
    show(ax, X_test[row.sample], (row.y0, row.y1, row.x0, row.x1), title)
plt.show()

# %%
folder.cleanup()
