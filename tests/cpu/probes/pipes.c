/* Pipes: up to PIPE_BUF in one piece, whoever else writes; full, empty, and without an other end. */
#include "probe.h"
#include <limits.h>

static int ends[2];

static void writers(void)
{
	char block[PIPE_BUF];
	for (int i = 0; i < 4; i++)
		if (!fork()) {
			close(ends[0]);
			for (int n = 0; n < 16; n++) {
				memset(block, 'a' + i, sizeof block);
				if (write(ends[1], block, sizeof block) != sizeof block)
					_exit(1);
			}
			_exit(0);
		}
	close(ends[1]);
	int mixed = 0, counts[4] = {0};
	for (;;) {
		size_t have = 0;
		while (have < sizeof block) {
			ssize_t n = read(ends[0], block + have, sizeof block - have);
			if (n <= 0)
				break;
			have += n;
		}
		if (!have)
			break;
		for (size_t i = 1; i < have; i++)
			mixed += block[i] != block[0];
		counts[block[0] - 'a']++;
	}
	say("mixed %d, blocks %d %d %d %d", mixed, counts[0], counts[1], counts[2], counts[3]);
	while (wait(NULL) > 0)
		;
}

static int broken(void)
{
	int fd[2];
	if (pipe(fd))
		return 1;
	close(fd[0]);
	return write(fd[1], "x", 1);
}

int main(void)
{
	char text[1 << 17];
	int nr;
	if (pipe(ends))
		return 1;
	say("capacity %d, PIPE_BUF %d", fcntl(ends[0], F_GETPIPE_SZ), PIPE_BUF);
	writers();
	if (pipe2(ends, O_NONBLOCK))
		return 1;
	say("empty: %s", came(read(ends[0], text, 1)));
	say("much: %d", (int)write(ends[1], text, sizeof text));
	say("more: %s", came(write(ends[1], text, 1)));
	ioctl(ends[0], FIONREAD, &nr);
	say("there are %d", nr);
	say("read %d", (int)read(ends[0], text, 4096));
	say("room for a page, asked for more: %d", (int)write(ends[1], text, 5000));
	say("PIPE_BUF into none: %s", came(write(ends[1], text, PIPE_BUF)));
	say("set: %d", fcntl(ends[0], F_SETPIPE_SZ, 4096));
	say("busy: %s", strerrorname_np(errno));
	while (read(ends[0], text, sizeof text) > 0)
		;
	say("set: %d, now %d", fcntl(ends[0], F_SETPIPE_SZ, 5000), fcntl(ends[0], F_GETPIPE_SZ));
	say("write %d", (int)write(ends[1], text, sizeof text));
	close(ends[1]);
	say("read %d %d", (int)read(ends[0], text, sizeof text), (int)read(ends[0], text, sizeof text));
	say("end: %d", (int)read(ends[0], text, sizeof text));
	say("%s", in_child(broken));
	signal(SIGPIPE, SIG_IGN);
	pipe(ends) ? (void)0 : (void)close(ends[0]);
	say("nobody reads: %s", came(write(ends[1], "x", 1)));
	say("wrong way: %s", came(read(ends[1], text, 1)));
	say("lseek: %s", came(lseek(ends[1], 0, SEEK_SET)));
	return 0;
}
