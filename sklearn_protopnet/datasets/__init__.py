"""Data sets of images."""

from sklearn_protopnet.datasets._image_folder import load_image_folder

__all__ = ["load_image_folder"]
