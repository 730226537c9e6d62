"""More rows made of a file's rows, written into a new file: by the ways of ``data.augment``, and by runs that write."""

from tunesmith.augment.augmenting import Augmented, AugmentOptions, augment_file

__all__ = ["AugmentOptions", "Augmented", "augment_file"]
