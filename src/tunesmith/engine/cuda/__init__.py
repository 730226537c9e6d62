"""What is done differently on NVIDIA GPUs, at the same mathematics: attention, transfers, fused kernels, graphs."""
