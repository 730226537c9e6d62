"""Pages of studies: a contest between methods, a cross-validation, a search."""
