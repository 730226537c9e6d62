"""The engine: batch layout, attention, precision, optimizers, the loop, checkpoints.

It knows no task, method or model by name.
"""
