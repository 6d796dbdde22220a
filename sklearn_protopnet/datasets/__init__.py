"""Data sets of images."""

from sklearn_protopnet.datasets._image_folder import load_image_folder
from sklearn_protopnet.datasets._part_drawing import PartImageParams
from sklearn_protopnet.datasets._part_images import make_part_images, render_part_image

__all__ = ["PartImageParams", "load_image_folder", "make_part_images", "render_part_image"]
