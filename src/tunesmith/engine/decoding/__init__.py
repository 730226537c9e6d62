"""Writing token by token: rows at work lie in slots of one cache, each step computes one token for every one of them.

A step is a flat row of B tokens, one of each text, with their positions: the layout that training uses, so that a
model's own code runs as it is and its attention alone is replaced. Prompts are read as flat rows too, without padding.
"""
