"""Fused operations on flat rows of tokens, for the CPU: native code where a compiler is found, else torch's own.

Every operation is an ordinary differentiable function. What native code computes, torch's own operations compute
too, and tests hold both to the same numbers, the noise of dropout included.
"""
