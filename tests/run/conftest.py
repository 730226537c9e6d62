"""A tiny model, a small learnable data set and a private cache for whole runs."""

from small_runs import bert_folder, configured, llama_folder, private_cache, reviews, reviews_writer

__all__ = ["bert_folder", "configured", "llama_folder", "private_cache", "reviews", "reviews_writer"]
