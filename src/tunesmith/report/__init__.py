"""Reports: run directories, or the folder of a study, in; one self-contained HTML page out."""

from __future__ import annotations

from tunesmith.report.load import RunRecord, load_run
from tunesmith.report.page import write_report
from tunesmith.report.studies.page import write_study_report

__all__ = ["RunRecord", "load_run", "write_report", "write_study_report"]
