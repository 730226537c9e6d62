"""What a finished run gives away of the rows that it was trained on, measured by attacking it."""

from tunesmith.privacy.measuring import measure_privacy

__all__ = ["measure_privacy"]
