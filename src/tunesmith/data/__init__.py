"""The user's data: read from any file, columns found, tidied, split and audited, memory-mapped throughout."""

from tunesmith.data.columns import assign_roles
from tunesmith.data.config import CleanConfig, DataConfig
from tunesmith.data.conversations import conversation_roles
from tunesmith.data.prediction import read_for_prediction
from tunesmith.data.prepare import left_out_of, prepare
from tunesmith.data.profiles import profile
from tunesmith.data.readers import read
from tunesmith.data.records import ROW, SPLITS, PreparedData, RawData, RejectedRow, Source
from tunesmith.data.samples import SAMPLES

__all__ = [
    "ROW",
    "SAMPLES",
    "SPLITS",
    "CleanConfig",
    "DataConfig",
    "PreparedData",
    "RawData",
    "RejectedRow",
    "Source",
    "assign_roles",
    "conversation_roles",
    "left_out_of",
    "prepare",
    "profile",
    "read",
    "read_for_prediction",
]
