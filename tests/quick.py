"""Settings of a classifier that is fitted in a moment."""

QUICK = {
    "n_prototypes_per_class": 2,
    "prototype_depth": 8,
    "pretraining_epochs": 1,
    "warmup_epochs": 1,
    "joint_epochs": 1,
    "random_state": 0,
}
