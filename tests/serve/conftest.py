"""A tiny model and a small learnable data set for whole runs, and runs of every kind that are served."""

from serve.running import folders
from small_runs import bert_folder, configured, llama_folder, reviews, reviews_writer

__all__ = ["bert_folder", "configured", "folders", "llama_folder", "reviews", "reviews_writer"]
