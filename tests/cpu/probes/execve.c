/* execve: what goes on (pid, pipes, mask, ignored and pending signals, directory, limits), what does not (memory, handlers, CLOEXEC); failures. */
#include "probe.h"

static void caught(int number, siginfo_t *info, void *context) {}

static int again(char **argv, char **environment)
{
	char text[8] = "";
	struct sigaction action;
	sigset_t set;
	struct rlimit limit;
	int one = atoi(argv[2]), two = atoi(argv[3]);
	say("name %s, pid the same %d", argv[0], getppid() > 0 && getpid() == atoi(argv[4]));
	say("pipe: %d %s", (int)read(one, text, 4), text);
	say("close on exec: %s", came(fcntl(two, F_GETFD)));
	for (char **at = environment; *at; at++)
		say("environment %s", *at);
	sigaction(SIGUSR1, NULL, &action);
	say("caught is default %d", action.sa_handler == SIG_DFL);
	sigaction(SIGUSR2, NULL, &action);
	say("ignored is ignored %d", action.sa_handler == SIG_IGN);
	sigprocmask(SIG_BLOCK, NULL, &set);
	say("blocked %d", sigismember(&set, SIGTERM));
	sigpending(&set);
	say("pending %d", sigismember(&set, SIGTERM));
	getrlimit(RLIMIT_NOFILE, &limit);
	say("limit %d", (int)limit.rlim_cur);
	say("the offset is shared: %d", (int)lseek(atoi(argv[5]), 0, SEEK_CUR));
	say("umask %o", umask(0));
	lseek(atoi(argv[5]), 5, SEEK_SET);
	return 13;
}

static int starts(char **argv)
{
	int ends[2], closed[2];
	char names[4][12];
	if (pipe(ends) || pipe2(closed, O_CLOEXEC) || write(ends[1], "text", 4) != 4)
		return 1;
	int file = file_of(10, 'f');
	lseek(file, 3, SEEK_SET);
	on(SIGUSR1, caught, 0);
	signal(SIGUSR2, SIG_IGN);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGTERM);
	umask(027);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){77, 77});
	int status;
	pid_t pid = fork();
	if (!pid) {
		snprintf(names[0], 12, "%d", ends[0]);
		snprintf(names[1], 12, "%d", closed[0]);
		snprintf(names[2], 12, "%d", getpid());
		snprintf(names[3], 12, "%d", file);
		char *words[] = {"another name", "again", names[0], names[1], names[2], names[3], NULL};
		char *environment[] = {"A=1", "EMPTY=", "no equals", NULL};
		execve(argv[0], words, environment);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	say("%s, offset %d", ended(status), (int)lseek(file, 0, SEEK_CUR));
	return 0;
}

static void script(const char *head, int mode)
{
	int fd = open("probe.script", O_WRONLY | O_CREAT | O_TRUNC, 0700);
	if (write(fd, head, strlen(head)) < 0)
		return;
	fchmod(fd, mode);
	close(fd);
}

static int runs(void)
{
	char *words[] = {"script", "one", NULL}, *none[] = {NULL};
	execve("./probe.script", words, none);
	say("%s", came(-1));
	return 20;
}

int main(int argc, char **argv, char **environment)
{
	if (argc > 1 && !strcmp(argv[1], "again"))
		return again(argv, environment);
	if (argc > 1 && !strcmp(argv[1], "many")) {
		long sum = 0;
		for (int i = 0; i < argc; i++)
			sum += strlen(argv[i]);
		say("%d arguments, %ld bytes", argc, sum);
		return 0;
	}
	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			say("argument %s", argv[i]);
		return 21;
	}
	char *words[] = {argv[0], NULL}, line[300];
	starts(argv);
	say("none: %s", came(execve("./none", words, environment)));
	say("below a file: %s", came(execve("./runner/x", words, environment)));
	say("a directory: %s", came(execve(".", words, environment)));
	say("no name: %s", came(execve("", words, environment)));
	say("nowhere: %s", came(execve((char *)16, words, environment)));
	say("words nowhere: %s", came(execve(argv[0], (char **)16, environment)));
	script("plain text\n", 0700);
	say("text: %s", in_child(runs));
	script("#!./none\n", 0700);
	say("no interpreter: %s", in_child(runs));
	snprintf(line, sizeof line, "#!%s  with blanks  \nrest\n", argv[0]);
	script(line, 0700);
	say("a script: %s", in_child(runs));
	script(line, 0600);
	say("not executable: %s", in_child(runs));
	script("\177ELF", 0700);
	say("half a header: %s", in_child(runs));
	script("", 0700);
	say("empty: %s", in_child(runs));
	unlink("probe.script");
	static char *many[3002];
	static char word[100];
	memset(word, 'w', sizeof word - 1);
	many[0] = argv[0], many[1] = "many";
	for (int i = 2; i < 3000; i++)
		many[i] = word;
	int status;
	pid_t pid = fork();
	if (!pid) {
		execve(argv[0], many, environment);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	say("many: %s", ended(status));
	static char huge[140000];
	memset(huge, 'h', sizeof huge - 1);
	many[2] = huge;
	say("a long one: %s", came(execve(argv[0], many, environment)));
	return 0;
}
