"""System V shared memory since 2.4: limits, ids, errnos, what attach and detach look at. The facts: files.md F2; ipc/shm.c, ipc/util.c of each kernel."""

from rmaplab.kernels.history import History, Status, since

V = Status.VALIDATED

IPC: dict[str, History] = {
    "shmid_kernel_bytes": (
        since("2.4", 64, "2.4.27 ipc/shm.c, struct shmid_kernel, computed", value64=96),
        since("2.6", 92, "2.6.2 include/linux/shm.h, with ipc/util.c, struct ipc_rcu_kmalloc, computed", value64=144),
        since("6.18", 256, "struct shmid_kernel by BTF", V),
    ),
    "shm_file_data_bytes": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 ipc/shm.c, sys_shmat: shp->shm_file for all"),
        since("2.6.34", 32, "2.6.34 ipc/shm.c, do_shmat: struct shm_file_data, computed for 64 bits", value64=32),
        since("6.18", 32, "struct shm_file_data by BTF; ipc/shm.c, do_shmat: alloc_file_clone", V),
    ),
    "shm_max_bytes": (
        since("2.4", 32 << 20, "2.4.27, 2.6.2, 2.6.34 include/linux/shm.h, SHMMAX"),
        since("3.16", (1 << 32) - 1 - (1 << 24), "060028bac94b; from memory", value64=(1 << 64) - 1 - (1 << 24)),
        since(
            "6.18",
            (1 << 32) - 1 - (1 << 24),
            "include/uapi/linux/shm.h, SHMMAX",
            V,
            value64=(1 << 64) - 1 - (1 << 24),
        ),
    ),
    "shm_max_pages": (
        since("2.4", 2 << 20, "2.4.27, 2.6.2, 2.6.34 include/linux/shm.h, SHMALL"),
        since("3.16", (1 << 32) - 1 - (1 << 24), "060028bac94b; from memory", value64=(1 << 64) - 1 - (1 << 24)),
        since(
            "6.18",
            (1 << 32) - 1 - (1 << 24),
            "include/uapi/linux/shm.h, SHMALL",
            V,
            value64=(1 << 64) - 1 - (1 << 24),
        ),
    ),
    "shm_max_ids": (
        since("2.4", 4097, "2.4.27, 2.6.2, 2.6.7 ipc/shm.c, shm_addid: one more than SHMMNI"),
        since("2.6.34", 4096, "2.6.34 ipc/shm.c, newseg: SHMMNI"),
        since("6.18", 4096, "include/uapi/linux/shm.h, SHMMNI", V),
    ),
    "shm_reaches_max_pages": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 ipc/shm.c, newseg: not below shm_ctlall"),
        since("2.6.34", 1, "2.6.34, 6.18 ipc/shm.c, newseg: above shm_ctlall"),
    ),
    "ipc_ids_in_turn": (
        since("2.4", 0, "2.4.27, 2.6.2 ipc/util.c, ipc_addid"),
        since("5.2", 1, "99db46ea292780cd978d56932d9445b1e8bdafe8; from memory"),
        since("6.18", 1, "ipc/util.c, ipc_idr_alloc: idr_alloc_cyclic", V),
    ),
    "ipc_removed_is_eidrm": (
        since("2.4", 1, "2.4.27, 2.6.2 ipc/shm.c, shm_checkid; 2.6.34 ipc/util.c, ipc_lock_check"),
        since("6.18", 0, "ipc/util.c, ipc_obtain_object_check", V),
    ),
    "shm_noreserve_known": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 include/linux/shm.h"),
        since("2.6.34", 1, "2.6.34 ipc/shm.c, newseg: SHM_NORESERVE"),
        since("6.18", 1, "ipc/shm.c, newseg: SHM_NORESERVE", V),
    ),
    "shm_exec_known": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 include/linux/shm.h"),
        since("2.6.34", 1, "2.6.34 ipc/shm.c, do_shmat: SHM_EXEC"),
        since("6.18", 1, "ipc/shm.c, do_shmat: SHM_EXEC", V),
    ),
    "shmat_minds_stack": (
        since("2.4", 1, "2.4.27, 2.6.2 ipc/shm.c, sys_shmat; 2.6.34 do_shmat: start_stack"),
        since("6.18", 0, "ipc/shm.c, do_shmat", V),
    ),
    "shmat_refuses_wrap": (
        since("2.4", 0, "2.4.27, 2.6.2 ipc/shm.c, sys_shmat; 2.6.34 do_shmat"),
        since("6.18", 1, "ipc/shm.c, do_shmat", V),
    ),
    "shmat_remaps_nil": (
        since("2.4", 1, "2.4.27, 2.6.2 ipc/shm.c, sys_shmat; 2.6.34 do_shmat"),
        since("4.17", 0, "8f89c007b6de; from memory"),
        since("6.18", 0, "ipc/shm.c, do_shmat", V),
    ),
    "shmdt_takes_all": (
        since("2.4", 1, "2.4.27 ipc/shm.c, sys_shmdt"),
        since("2.6", 0, "2.6.2, 2.6.7 ipc/shm.c, sys_shmdt"),
        since("6.18", 0, "ipc/shm.c, ksys_shmdt", V),
    ),
    "shmdt_rounds_down": (
        since("2.4", 0, "2.4.27 ipc/shm.c, sys_shmdt: an equation"),
        since("2.6", 1, "2.6.2, 2.6.7 ipc/shm.c, sys_shmdt: a division"),
        since("2.6.34", 0, "2.6.34 ipc/shm.c, shmdt: PAGE_MASK"),
        since("6.18", 0, "ipc/shm.c, ksys_shmdt: PAGE_MASK", V),
    ),
    "shmdt_forgets_part_page": (
        since("2.4", 0, "2.4.27 ipc/shm.c, sys_shmdt: no length is asked for"),
        since("2.6", 1, "2.6.2, 2.6.7 ipc/shm.c, sys_shmdt: i_size as it is"),
        since("2.6.34", 0, "2.6.34 ipc/shm.c, shmdt: PAGE_ALIGN"),
        since("6.18", 0, "ipc/shm.c, ksys_shmdt: PAGE_ALIGN", V),
    ),
    "shmdt_minds_file": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 ipc/shm.c"),
        since("3.19", 1, "d3c97900b427; from memory"),
        since("6.18", 1, "ipc/shm.c, ksys_shmdt: vm_file", V),
    ),
    "shm_lock_needs_capability": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.7 ipc/shm.c, sys_shmctl: CAP_IPC_LOCK"),
        since("2.6.9", 0, "from memory; 2.6.34 ipc/shm.c, shmctl: can_do_mlock is the owner's"),
        since("6.18", 0, "ipc/shm.c, shmctl_do_lock", V),
    ),
    "removal_minds_close": (
        since(
            "2.4",
            0,
            "2.4.27 mm/mmap.c, can_vma_merge; 2.6.2, 2.6.34 mm/mmap.c, is_mergeable_vma: none that has a close",
        ),
        since("6.4", 1, "714965ca8252; from memory"),
        since("6.18", 1, "mm/vma.c, can_merge_remove_vma", V),
    ),
}
