/* Runs the programs that it is given, one after the other: a heading, what each prints, and how it has ended. */
#include "probe.h"

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int status;
		say("== %s", argv[i]);
		pid_t pid = fork();
		if (!pid) {
			execl(argv[i], argv[i], (char *)NULL);
			say("execl: %s", came(-1));
			_exit(97);
		}
		if (waitpid(pid, &status, 0) != pid)
			say("waitpid: %s", came(-1));
		say("%s", ended(status));
	}
	return 0;
}
