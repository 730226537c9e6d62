"""Weights, gradients and optimizer state that lie in parts over the processes that train a model together."""
