"""Tests of the CUDA kernels on a GPU; most of them run on the CPU's kernels too."""
