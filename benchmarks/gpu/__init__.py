"""Speed, memory and utilisation on one GPU, beside TRL, the Trainer of transformers and Unsloth.

``python -m benchmarks.gpu`` runs it. Nothing is downloaded: models are Llamas of 1B and 8B weights (and an encoder
as small as MiniLM) with random weights, rows are random tokens whose lengths are spread as those of instruction
data. All tools get the same rows in the same order, bf16 weights, AdamW, no dropout, and learn the second half of
every row. Tokens are real ones, padding never counts; the first steps, in which kernels are compiled and memory is
found, are left out of the rate and reported beside it. Utilisation (MFU) is against the rate of a large bf16
matrix product, measured once on the same GPU.
"""
