"""A recorded program's calls, made again on simulated kernels.

plan       what a log says, kernel by kernel the same: processes, files, and where in what every address lies
player     makes the calls of a plan on a booted system
run        a plan on several kernels: one row each
"""
