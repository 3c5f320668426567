"""Experiments: workloads on kernels, results as rows."""
