"""Where execve puts a program, since 2.4 (cpu/binfmt.py)."""

from rmaplab.kernels.history import History, since

EXEC: dict[str, History] = {
    "exec_loaders_lie_with_mmap": (
        since("2.4", 0, "2.4.27, 2.6.2 fs/binfmt_elf.c: every ET_DYN program begins at ELF_ET_DYN_BASE"),
        since("4.13", 1, "fs/binfmt_elf.c, load_elf_binary: eab09532d400, July 2017: loaders go where mmap finds room"),
    ),
    "exec_extra_stack_bytes": (
        since("2.4", 0, "2.4.27, 2.6.2 fs/exec.c, setup_arg_pages: the VMA has what is on the stack"),
        since("2.6.23", 128 << 10, "fs/exec.c, setup_arg_pages: EXTRA_STACK_VM_PAGES, b6a2fea39318, July 2007"),
    ),
}
