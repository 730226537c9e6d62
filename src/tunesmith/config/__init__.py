"""Typed configuration: the base class, building from YAML and flags, and its errors."""
