"""Reading kernel memory by BPF, without libbpf: types (btf), objects (elf), CO-RE (relocate), bpf(2) (syscall), loader.

kernel.h, task_vma.bpf.c and peek.bpf.c are ours, "Dual MIT/GPL"; the compiled .bpf.o beside them are package data (`make bpf`).
"""
