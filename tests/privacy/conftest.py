"""A tiny model and a small learnable data set for whole runs."""

from small_runs import bert_folder, configured, llama_folder, reviews, reviews_writer

__all__ = ["bert_folder", "configured", "llama_folder", "reviews", "reviews_writer"]
