"""
Talking a classifier out of a cue
=================================

A black and white square is on all training images of one class, and on no others. The classifier
learns the square, and takes whatever has one for that class. A report finds the prototypes that are
to blame; an editor forbids them, once it has been shown where the object's parts are.
"""

# %%
# Images with a cue
# -----------------
# A class is a code of three parts, and `make_part_images` knows where each part is. The test images
# are drawn twice: as they are, and with a square on each of them.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.datasets import make_part_images, render_part_image
from sklearn_protopnet.editing import PrototypeEditor
from sklearn_protopnet.inspection import ExplanationDisplay, PrototypeDisplay
from sklearn_protopnet.metrics import prototype_report

train = make_part_images(300, spurious="patch", random_state=0)  # on class 0 only
test = make_part_images(300, random_state=2000)
with_square = np.stack([render_part_image(each, add_spurious="patch") for each in test.params])

clf = ProtoPNetClassifier(n_prototypes_per_class=5, random_state=0)
clf.fit(train.images, train.target)


def accuracies(classifier):
    """Accuracy on test images of all classes but the one that the square betrays."""
    others = test.target != 0
    return {
        "without the square": classifier.score(test.images[others], test.target[others]),
        "with the square": classifier.score(with_square[others], test.target[others]),
    }


print(accuracies(clf))

# %%
# Without a square the classifier is right. Here is one of the images that a square leads astray:

others = np.flatnonzero((test.target != 0) & (clf.predict(with_square) == 0))
sample = int(others[0])
ExplanationDisplay.from_estimator(clf, with_square, sample=sample, top_k=3)
plt.show()

# %%
# Accuse
# ------
# `prototype_report` takes other images, half of which have a square whatever their class, and the
# same images with one thing removed: the square, or one of the parts. What matters most to the
# similarity of a prototype is its cause, in images of its own class and in those of others. In
# images of the class itself, object and square come together, and either will do; a square on
# images of other classes tells them apart.

seen = make_part_images(
    300, spurious="patch", spurious_align=0.5, spurious_leak=0.5, random_state=1000
)
removals = {"square": {"remove_spurious": True}}
removals |= {f"part {k}": {"remove_parts": [k]} for k in range(3)}
interventions = {
    name: np.stack([render_part_image(each, **removal) for each in seen.params])
    for name, removal in removals.items()
}
report = prototype_report(clf, seen.images, seen.target, groups=(), interventions=interventions)
accused = report.loc[(report[["cause", "cause_others"]] == "square").any(axis=1), "prototype"]
report.loc[
    report["prototype_class"] <= 1,
    ["prototype", "prototype_class", "cause", "cause_others", "effect_square_others"],
]

# %%
# All prototypes of class 0 are accused, and no other. With this seed their boxes in the training
# images show the square as well; that is not always so.

PrototypeDisplay.from_estimator(clf, classes=[0])
plt.show()

# %%
# Forbid
# ------
# An editor solves the last layer again, without the prototypes that are forbidden. It leaves no
# class without any:

editor = PrototypeEditor(clf, train.images, train.target, X_val=seen.images, y_val=seen.target)
try:
    editor.forbid(accused)
except ValueError as error:
    print(error)

# %%
# So the class needs other prototypes first. An expert points at them: here at the three parts of
# the object, in the two training images whose square is farthest from all of them. The patch that
# is nearest to a box becomes a prototype.


def box_of(mask):
    """Give the box ``y0, y1, x0, x1`` around the pixels of a mask."""
    y, x = np.nonzero(mask)
    return int(y.min()), int(y.max()) + 1, int(x.min()), int(x.max()) + 1


rows = np.flatnonzero(train.target == 0)
squares = np.array([np.argwhere(mask).mean(0) for mask in train.spurious_mask[rows]])
away = np.linalg.norm(train.part_centres[rows] - squares[:, None], axis=2).min(1)
for row in rows[np.argsort(-away)[:2]].tolist():
    for k, mask in enumerate(train.part_masks[row]):
        editor.add_prototypes(0, sample=row, box=box_of(mask))
        editor.rename({len(editor.classifier_.prototypes_) - 1: f"part {k} of image {row}"})

editor.forbid(accused)
edited = editor.classifier_

# %%
# Nothing was trained: the network is the same, and so are all other prototypes.

pd.DataFrame({"before": accuracies(clf), "after": accuracies(edited)}).round(3)

# %%
# The image from above, once more:

ExplanationDisplay.from_estimator(edited, with_square, sample=sample, top_k=3)
plt.show()

# %%
# And why an image is of class 0 now:

ExplanationDisplay.from_estimator(
    edited, test.images, sample=int((test.target == 0).argmax()), top_k=3
)
plt.show()

# %%
# What was done
# -------------
# The log has a row for each edit. It belongs to the classifier, and goes into its file. The
# objective of the last layer rises with what is forbidden, since the square did help on these
# training images; images that break the rule show what is gained. They are the validation images
# here. They were used to accuse, too, so that the test images above are what to believe.

log = editor.log()
columns = ["edit", "action", "prototypes", "objective_before", "objective", "gap"]
columns += ["train_score", "validation_score_before", "validation_score", "n_changed"]
log.loc[log["action"] != "rename", columns]

# %%
# What is left
# ------------
# None of the new patches has a square in it. But the network still has what it learned: to its eyes
# the square looks like one of the parts, and the report accuses some of the new prototypes, too.

report = prototype_report(edited, seen.images, seen.target, groups=(), interventions=interventions)
names = edited.prototype_table()[["prototype", "name"]]
report[["prototype", "cause", "cause_others", "effect_square", "effect_square_others"]].merge(
    names[names["name"] != ""]
)

# %%
# The last layer weighs their evidence such that the decisions hold all the same. To change what the
# network sees, train on from the edited classifier: the user guide's page on editing says how.
