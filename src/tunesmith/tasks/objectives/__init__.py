"""Objectives that stand over those of tasks."""
