"""What /proc shows, since 2.4: mm/proc_meminfo.py and mm/proc_vmstat.py have the names."""

from rmaplab.kernels.history import History, Status, since
from rmaplab.mm.proc_meminfo import MeminfoEra
from rmaplab.mm.proc_vmstat import VmstatEra

V = Status.VALIDATED

PROC: dict[str, History] = {
    "proc_meminfo": (
        since("2.4", MeminfoEra.LINUX_2_4, "2.4.27 fs/proc/proc_misc.c, meminfo_read_proc"),
        since("2.6", MeminfoEra.LINUX_2_6, "2.6.2, 2.6.7 fs/proc/proc_misc.c, meminfo_read_proc: the same names"),
        since("6.18", MeminfoEra.LINUX_6_18, "fs/proc/meminfo.c, meminfo_proc_show", V),
    ),
    "proc_vmstat": (
        since("2.4", VmstatEra.PROC_STAT, "2.4.27 fs/proc/proc_misc.c, kstat_read_proc: there is no vmstat"),
        since("2.6", VmstatEra.WHOLE, "2.6.2 mm/page_alloc.c, vmstat_text"),
        since("2.6.5-rc1", VmstatEra.BY_ZONE, "HT:927e073cd0, 11 March 2004; 2.6.5, 2.6.7 mm/page_alloc.c"),
        since("6.18", VmstatEra.LINUX_6_18, "mm/vmstat.c, vmstat_text", V),
    ),
}
