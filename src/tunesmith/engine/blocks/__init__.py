"""Transformer layers computed in a few fused steps, in place of the many small ones of their authors' code.

A block stands in for the ``forward`` of a layer that it recognises by its parts; weights, names and files stay the
model's own. Whether it computes the same is not taken for granted: ``engine.layout`` compares the model with itself.
"""
