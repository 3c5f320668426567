/* wait4 and its kin: how a child has ended, who hears of it, orphans. */
#include "probe.h"

static volatile sig_atomic_t seen, code, what;
static void caught(int number, siginfo_t *info, void *context) { seen++, code = info->si_code, what = info->si_status; }
static int leaves(void) { exit(300); }
static int aborts(void) { abort(); }
static int killed(void) { kill(getpid(), SIGTERM); return 0; }

static int orphan(void)
{
	int ends[2];
	char c;
	if (pipe(ends))
		return 1;
	pid_t me = getpid();
	pid_t pid = fork();
	if (!pid) {
		pid_t grand = fork();
		if (!grand) {
			while (getppid() != me && getppid() != 1)
				usleep(1000);
			say("an orphan: its parent is another now");
			if (write(ends[1], "x", 1) != 1)
				_exit(1);
			_exit(0);
		}
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return read(ends[0], &c, 1) == 1 ? 0 : 1;
}

int main(void)
{
	int status;
	siginfo_t info;
	struct rusage usage;
	say("%s", in_child(leaves));
	say("%s", in_child(aborts));
	say("%s", in_child(killed));
	say("nobody: %s", came(wait(&status)));
	say("not mine: %s", came(waitpid(1, &status, 0)));
	say("odd options: %s", came(waitpid(-1, &status, 0x800)));
	int ends[2];
	char c;
	if (pipe(ends))
		return 1;
	pid_t pid = fork();
	if (!pid) {
		close(ends[1]);
		_exit(read(ends[0], &c, 1) == 0 ? 31 : 1);
	}
	say("not yet: %d", waitpid(pid, &status, WNOHANG));
	close(ends[1]);
	memset(&info, 0, sizeof info);
	say("waitid %s", came(waitid(P_PID, pid, &info, WEXITED | WNOWAIT)));
	say("signal %d code %d status %d pid %d", info.si_signo, info.si_code, info.si_status, info.si_pid == pid);
	say("a zombie can be killed: %s", came(kill(pid, SIGKILL)));
	pid_t found = wait4(pid, &status, 0, &usage);
	say("still there: %d, %s", found == pid, ended(status));
	say("kill: %s", came(kill(pid, 0)));
	on(SIGCHLD, caught, SA_RESTART);
	say("%s", in_child(killed));
	say("seen %d, code %d, status %d", seen, code, what);
	say("%s", in_child(leaves));
	say("seen %d, code %d, status %d", seen, code, what);
	pid_t group[3];
	for (int i = 0; i < 3; i++) {
		group[i] = fork();
		if (!group[i]) {
			for (;;)
				pause();
		}
		setpgid(group[i], group[0]);
	}
	say("a group: %s", came(kill(-group[0], SIGUSR1)));
	for (int i = 0; i < 3; i++)
	{
		found = waitpid(-group[0], &status, 0);
		say("%d, %s", found > 0, ended(status));
	}
	say("none left: %s", came(waitpid(-group[0], &status, 0)));
	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (!pid)
		_exit(0);
	say("ignored: %s", came(waitpid(pid, &status, 0)));
	on(SIGCHLD, caught, SA_NOCLDWAIT | SA_RESTART);
	seen = 0;
	pid = fork();
	if (!pid)
		_exit(0);
	say("SA_NOCLDWAIT: %s", came(waitpid(pid, &status, 0)));
	say("seen %d", seen); /* not in one line with waitpid: which of them comes first there is the compiler's affair */
	signal(SIGCHLD, SIG_DFL);
	say("%s", in_child(orphan));
	return 0;
}
