"""More training rows made of those that are there: noise and synonyms, labels of spans and answers kept in place."""

from tunesmith.data.augmentation.config import AugmentConfig

__all__ = ["AugmentConfig"]
