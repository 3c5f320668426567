/* vfork: the child has its parent's memory, and the parent waits until the child has another or none. */
#include "probe.h"

static volatile int shared = 1;

int main(int argc, char **argv)
{
	int status;
	if (argc > 1) {
		say("executed, shared is %d again", shared);
		return 7;
	}
	pid_t pid = vfork();
	if (!pid) {
		for (volatile int i = 0; i < 100000; i++)
			;
		shared = 2;
		_exit(3);
	}
	say("parent after the child's end: %d", shared);
	waitpid(pid, &status, 0);
	say("%s", ended(status));
	pid = vfork();
	if (!pid) {
		shared = 3;
		execl(argv[0], argv[0], "again", (char *)NULL);
		_exit(1);
	}
	int then = shared;
	waitpid(pid, &status, 0);
	say("parent after execve: %d, %s", then, ended(status));
	pid = vfork();
	if (!pid) {
		execl("./there is none", "x", (char *)NULL);
		shared = errno;
		_exit(4);
	}
	waitpid(pid, &status, 0);
	say("%s, %s", strerrorname_np(shared), ended(status));
	pid = vfork();
	if (!pid) {
		kill(getpid(), SIGKILL);
		_exit(5);
	}
	waitpid(pid, &status, 0);
	say("%s", ended(status));
	return 0;
}
