"""What is wrong with a data set before anything is trained on it: findings with rows, a figure and a remedy."""

from tunesmith.data_audit.auditing import DataAudit, audit_data
from tunesmith.data_audit.findings import CHECKS, AuditOptions, Finding

__all__ = ["CHECKS", "AuditOptions", "DataAudit", "Finding", "audit_data"]
