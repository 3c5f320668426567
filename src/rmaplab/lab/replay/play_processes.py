"""Calls of processes, played. Where threads of one process are no group (2.4), they are tasks that share its address space, and each ends by itself."""

from rmaplab.calls.task import Task
from rmaplab.lab.replay.places import Image
from rmaplab.lab.replay.plan import ReplayStep
from rmaplab.lab.replay.programs import Programs
from rmaplab.mm.process import release_task


class ProcessPlayer(Programs):
    """The steps of processes: a method for each."""

    def _spawn(self, task: Task | None, step: ReplayStep, image: Image | None) -> None:
        born = self.tasks[step.who] = self.system.spawn(root=self.plan.root)
        if image is not None:
            self.begin(born, image)

    def _fork(self, task: Task, step: ReplayStep, child: int) -> None:
        self.tasks[child] = task.fork()

    def _vfork(self, task: Task, step: ReplayStep, child: int) -> None:
        self.tasks[child] = task.vfork() if task.leader is task else task.clone_vm()

    def _clone_vm(self, task: Task, step: ReplayStep, child: int) -> None:
        self.tasks[child] = task.clone_vm()

    def _thread(self, task: Task, step: ReplayStep, child: int) -> None:
        groups = self.system.kernel.rules.thread_groups
        self.tasks[child] = task.thread() if groups else task.clone_vm()

    def _execve(
        self, task: Task, step: ReplayStep, closes: tuple[int, ...], image: Image, threads: tuple[int, ...]
    ) -> None:
        for fd in closes:
            if fd in task.files.fd:
                task.close(fd)
        self._end_threads(threads)
        task.execve()
        self.begin(task, image)

    def _exit(self, task: Task, step: ReplayStep) -> None:
        task.exit()
        if self.plan.threads[step.who]:
            self.bury(task)

    def _exit_group(self, task: Task, step: ReplayStep, threads: tuple[int, ...]) -> None:
        self._end_threads(threads)
        task.exit()

    def _end_threads(self, threads: tuple[int, ...]) -> None:
        """Those that are processes here."""
        for number in threads:
            thread = self.tasks[number]
            if thread is not None and thread.mm is not None and thread.leader is thread:
                thread.exit()
                self.bury(thread)

    def bury(self, child: Task) -> None:
        """Nothing is left of a zombie."""
        k = self.system.kernel
        if child.exit_code is not None and k.tasks.get(child.pid) is child:
            release_task(k, child)

    def _wait(self, task: Task, step: ReplayStep, child: int) -> None:
        dead = self.tasks[child]
        if dead is not None:
            self.bury(dead)
            self.tasks[child] = None if dead.mm is None else dead
        self.system.machine.end_call()
