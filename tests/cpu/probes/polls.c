/* poll, select, epoll, eventfd: what is ready, and that who waits is woken. */
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>

static void look(const char *what, int first, int second)
{
	struct pollfd both[2] = {{first, POLLIN | POLLOUT, 0}, {second, POLLIN | POLLOUT, 0}};
	int nr = poll(both, 2, 0);
	say("%s: %d %x %x", what, nr, both[0].revents, both[1].revents);
}

int main(void)
{
	int ends[2], other[2], status;
	char text[1 << 17];
	struct epoll_event event, found[4];
	if (pipe2(ends, O_NONBLOCK) || pipe(other))
		return 1;
	look("empty pipe", ends[0], ends[1]);
	if (write(ends[1], text, sizeof text) < 0)
		return 1;
	look("full pipe", ends[0], ends[1]);
	while (read(ends[0], text, sizeof text) > 0)
		;
	close(other[1]);
	look("no writer", other[0], 99);
	close(ends[0]);
	look("no reader", ends[1], -1);
	look("nothing", -1, -1);
	say("time: %d", poll(NULL, 0, 5));
	say("too many: %s", came(poll((struct pollfd *)text, 1u << 30, 0)));
	int regular = file_of(10, 'f');
	look("file", regular, 1);

	if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, other))
		return 1;
	pid_t pid = fork();
	if (!pid) {
		struct pollfd waits[2] = {{ends[0], POLLIN, 0}, {other[0], POLLIN, 0}};
		int nr = poll(waits, 2, -1);
		_exit(nr * 10 + (waits[0].revents == POLLIN) + 2 * (waits[1].revents == POLLIN));
	}
	if (write(ends[1], "x", 1) != 1)
		return 1;
	waitpid(pid, &status, 0);
	say("woken: %s", ended(status));
	fd_set in, out;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(ends[0], &in);
	FD_SET(other[0], &in);
	FD_SET(ends[1], &out);
	FD_SET(other[0], &out);
	struct timeval none = {0, 0};
	int nr = select(other[0] + 20, &in, &out, NULL, &none);
	say("select: %d, %d%d %d%d", nr, !!FD_ISSET(ends[0], &in), !!FD_ISSET(other[0], &in), !!FD_ISSET(ends[1], &out), !!FD_ISSET(other[0], &out));
	say("nothing open: %s", came(select(100, &(fd_set){{-1}}, NULL, NULL, &none)));
	if (write(other[1], "abc", 3) != 3)
		return 1;
	look("socket pair", other[0], other[1]);
	say("it reads %d", (int)read(other[0], text, 10));
	close(other[1]);
	look("closed", other[0], -1);

	int epoll = epoll_create1(0), counter = eventfd(3, EFD_NONBLOCK);
	uint64_t value = 0;
	event = (struct epoll_event){EPOLLIN, {.u32 = 1}};
	say("add: %s", came(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event)));
	say("again: %s", came(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event)));
	event = (struct epoll_event){EPOLLIN | EPOLLET, {.u32 = 2}};
	epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event);
	say("a file: %s", came(epoll_ctl(epoll, EPOLL_CTL_ADD, regular, &event)));
	nr = epoll_wait(epoll, found, 4, 0);
	say("both: %d, %d", nr, found[0].data.u32 + found[1].data.u32);
	nr = epoll_wait(epoll, found, 4, 0);
	say("the level one: %d, %d", nr, found[0].data.u32);
	if (read(counter, &value, 8) == 8)
		say("eventfd %d, then %s", (int)value, came(read(counter, &value, 8)));
	value = 5;
	if (write(counter, &value, 8) != 8 || read(ends[0], text, 1) != 1)
		return 1;
	nr = epoll_wait(epoll, found, 4, -1);
	say("the edge: %d, %d", nr, found[0].data.u32);
	say("del: %s, again: %s", came(epoll_ctl(epoll, EPOLL_CTL_DEL, counter, NULL)), came(epoll_ctl(epoll, EPOLL_CTL_DEL, counter, NULL)));
	say("none: %d", epoll_wait(epoll, found, 4, 1));
	struct timespec long_ones = {0, 1000000000};
	say("ppoll: %s, pselect: %s", came(ppoll(NULL, 0, &long_ones, NULL)), came(pselect(0, NULL, NULL, NULL, &long_ones, NULL)));
	say("select: %s", came(select(0, NULL, NULL, NULL, &(struct timeval){0, -1})));
	return 0;
}
