"""What a task can ask of System V shared memory: segments have ids, which mean the same to all tasks."""

from rmaplab.calls.files import FileCalls
from rmaplab.mm.ipc_attach import do_shmat, do_shmdt
from rmaplab.mm.ipc_shm import ShmStat, do_shm_stat, do_shmctl, do_shmget
from rmaplab.mm.populate import mm_populate
from rmaplab.units import parse_size


class ShmCalls(FileCalls):
    """The calls on segments."""

    def shmget(self, key: int, size: int | str, flags: int = 0) -> int:
        """shmget(2): the id of the segment with that key, or of a new one (IPC_CREAT, IPC_PRIVATE) of `size` bytes; `flags` are its mode too.

        Raises SyscallError: EINVAL, ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM, ENFILE; NoMemory.
        """
        self._mm()
        try:
            return do_shmget(self.kernel, self.limits, key, parse_size(size), flags)
        finally:
            self.kernel.machine.end_call()

    def shmat(self, shmid: int, address: int = 0, flags: int = 0) -> int:
        """shmat(2): the address where the segment is attached. SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC.

        Raises SyscallError: EINVAL, EIDRM, EACCES, ENOMEM; NoMemory.
        """
        mm = self._mm()
        try:
            result, populate = do_shmat(self.kernel, mm, self.limits, shmid, address, flags)
            if populate is not None:
                self._locked(mm_populate, *populate, write=False)
        finally:
            self.kernel.machine.end_call()
        return result

    def shmdt(self, address: int) -> None:
        """shmdt(2). Raises SyscallError(EINVAL)."""
        self._call(do_shmdt, address)

    def shmctl(self, shmid: int, command: int) -> None:
        """shmctl(2): IPC_RMID, SHM_LOCK, SHM_UNLOCK. Raises SyscallError: EINVAL, EIDRM, EPERM, ENOMEM."""
        self._mm()
        try:
            do_shmctl(self.kernel, self.limits, shmid, command)
        finally:
            self.kernel.machine.end_call()

    def shm_stat(self, shmid: int) -> ShmStat:
        """shmctl(2) with IPC_STAT. Raises SyscallError: EINVAL, EIDRM, EACCES."""
        self._mm()
        return do_shm_stat(self.kernel, self.limits, shmid)
