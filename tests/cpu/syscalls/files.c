/* File calls in a directory of its own; it prints what each has told. What differs between machines (inodes, devices, times) is not printed. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long got)
{
	if (got < 0)
		printf("%s: %s\n", what, strerror(errno));
	else
		printf("%s: %ld\n", what, got);
	fflush(stdout);
}
#define SAY(call) (errno = 0, say(#call, (long)(call)))

static void show(const char *name, int follow)
{
	struct stat st;
	int bad = follow ? stat(name, &st) : lstat(name, &st);
	if (bad)
		printf("stat %s: %s\n", name, strerror(errno));
	else
		printf("stat %s: %o links %ld size %lld mtime %ld.%09ld\n", name, st.st_mode, S_ISDIR(st.st_mode) ? 0L : (long)st.st_nlink,
		       S_ISDIR(st.st_mode) ? 0LL : (long long)st.st_size, S_ISDIR(st.st_mode) ? 0L : (long)(st.st_mtime > 1000000000),
		       st.st_mtime == 5 ? st.st_mtim.tv_nsec : 0L);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void list(const char *name)
{
	DIR *d = opendir(name);
	struct dirent *e;
	char *names[100];
	int n = 0;
	if (!d) {
		printf("opendir %s: %s\n", name, strerror(errno));
		return;
	}
	while ((e = readdir(d)) && n < 100) {
		char row[300];
		snprintf(row, sizeof row, "%s %d", e->d_name, e->d_type);
		names[n++] = strdup(row);
	}
	closedir(d);
	qsort(names, n, sizeof *names, by_name);
	for (int i = 0; i < n; i++)
		printf("%s/%s\n", name, names[i]);
}

static volatile int hits;
static void hit(int s) { hits++; }

static void regular(void)
{
	char b[64] = {0}, c[64] = {0};
	struct iovec v[2] = {{b, 3}, {c, 60}};
	struct stat st;
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0666), i;
	SAY(open("f", O_RDWR | O_CREAT | O_EXCL, 0666));
	SAY(write(fd, "hello world", 11));
	SAY(pwrite(fd, "J", 1, 0));
	SAY(pread(fd, b, 5, 6));
	printf("%s\n", b);
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(lseek(fd, -3, SEEK_END));
	SAY(lseek(fd, -100, SEEK_CUR));
	SAY(lseek(fd, 3LL << 32, SEEK_SET) == 3LL << 32);
	SAY(read(fd, b, 5));
	SAY(write(fd, "far", 3));
	fstat(fd, &st);
	printf("%lld\n", (long long)st.st_size);
	SAY(ftruncate(fd, 8));
	SAY(lseek(fd, 0, SEEK_SET));
	memset(b, 0, sizeof b);
	SAY(readv(fd, v, 2));
	printf("%.3s %s\n", b, c);
	SAY(writev(fd, v, 2));
	SAY(preadv(fd, v, 2, 1));
	printf("%.3s %.5s\n", b, c);
	SAY(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND));
	SAY(fcntl(fd, F_SETFL, O_APPEND));
	SAY(lseek(fd, 0, SEEK_SET));
	SAY(write(fd, "end", 3));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(read(fd, (void *)16, 0));
	SAY(pread(fd, (void *)16, 5, 0));
	SAY(write(fd, (void *)16, 5));
	SAY(read(99, b, 1));
	SAY(sizeof(long) == 8 ? read(fd, b, -1) < 0 : 1); /* of 32 bits a kernel of 64 sees no sign */
	i = open("f", O_RDONLY);
	SAY(write(i, "x", 1));
	SAY(ftruncate(i, 1));
	SAY(fsync(i));
	SAY(flock(i, LOCK_EX));
	SAY(flock(fd, LOCK_EX | LOCK_NB));
	SAY(flock(i, LOCK_UN));
	SAY(flock(fd, LOCK_SH | LOCK_NB));
	SAY(close(i));
	SAY(close(i));
	SAY(truncate("f", 3));
	show("f", 1);
	SAY(ioctl(fd, FIONREAD, &i));
	SAY(isatty(fd));
	SAY(posix_fallocate(fd, 0, 100) == 0);
	SAY(lseek(fd, 0, SEEK_DATA));
	SAY(lseek(fd, 0, SEEK_HOLE) > 0);
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	m[1] = 'M';
	SAY(pread(fd, b, 3, 0));
	printf("%.3s\n", b);
	SAY(munmap(m, 4096));
	SAY(unlink("f"));
	fstat(fd, &st);
	printf("links %ld\n", (long)st.st_nlink);
	SAY(close(fd));
}

static void names(void)
{
	char b[4096];
	int fd;
	struct timespec t[2] = {{5, 6}, {5, 7}};
	umask(022);
	SAY(mkdir("d", 0777));
	SAY(mkdir("d", 0777));
	SAY(mkdir("d/e", 0700));
	SAY(symlink("e", "d/l"));
	SAY(close(open("d/l/x", O_WRONLY | O_CREAT, 0640)));
	SAY(link("d/e/x", "d/h"));
	SAY(symlink("nowhere", "d/n"));
	SAY(mkfifo("d/p", 0600));
	list("d");
	show("d/l", 0);
	show("d/l", 1);
	show("d/h", 1);
	show("d/n", 1);
	show("d/p", 1);
	SAY(readlink("d/l", b, sizeof b));
	SAY(readlink("d/h", b, sizeof b));
	SAY(rename("d/h", "d/e/h"));
	SAY(rename("d", "d/e/d"));
	SAY(rename("d/e", "d/p"));
	SAY(rmdir("d"));
	SAY(unlink("d"));
	SAY(chmod("d/e/h", 04711));
	show("d/e/h", 1);
	SAY(utimensat(AT_FDCWD, "d/e/h", t, 0));
	show("d/e/h", 1);
	SAY(access("d/e/h", X_OK));
	SAY(access("d/n", F_OK));
	SAY(open("d/e/h/", O_RDONLY));
	SAY(open("d/e", O_WRONLY));
	SAY(open("d/l", O_RDONLY | O_NOFOLLOW));
	SAY(open("d/e/h", O_RDONLY | O_DIRECTORY));
	fd = open("d", O_RDONLY | O_DIRECTORY);
	SAY(read(fd, b, 10));
	SAY(openat(fd, "e/h", O_RDONLY) > 0);
	SAY(mkdirat(fd, "at", 0755));
	SAY(unlinkat(fd, "at", 0));
	SAY(unlinkat(fd, "at", AT_REMOVEDIR));
	SAY(faccessat(fd, "e", R_OK, 0));
	SAY(fchdir(fd));
	SAY(strcmp(strrchr(getcwd(b, sizeof b), '/'), "/d"));
	SAY(chdir(".."));
	SAY(open("", O_RDONLY));
	memset(b, 'x', sizeof b);
	b[300] = 0;
	SAY(open(b, O_RDONLY));
	b[300] = 'x';
	SAY(open(b, O_RDONLY));
	SAY(open((char *)16, O_RDONLY));
	SAY(renameat2(AT_FDCWD, "d/e", AT_FDCWD, "d/p", RENAME_EXCHANGE));
	SAY(renameat2(AT_FDCWD, "d/e", AT_FDCWD, "d/p", RENAME_NOREPLACE));
	list("d");
	SAY(open("d/p/../../../../../../../../../../../../../nowhere", O_RDONLY));
	struct statx sx;
	SAY(statx(AT_FDCWD, "d/p/h", 0, STATX_BASIC_STATS, &sx));
	printf("%o %d %lld\n", sx.stx_mode, sx.stx_nlink, (long long)sx.stx_mtime.tv_sec);
	struct statfs sf;
	SAY(statfs("d", &sf));
	printf("%d\n", (int)sf.f_namelen);
	SAY(close(fd));
}

static void pipes(void)
{
	int p[2], s[2], i, n;
	char b[100000];
	struct pollfd f[2];
	fd_set r, w;
	struct timeval tv = {0, 1000};
	signal(SIGPIPE, hit);
	SAY(pipe2(p, O_CLOEXEC));
	SAY(fcntl(p[0], F_GETFD));
	SAY(write(p[1], "abc", 3));
	SAY(ioctl(p[0], FIONREAD, &n));
	printf("%d\n", n);
	SAY(read(p[0], b, 2));
	f[0] = (struct pollfd){p[0], POLLIN | POLLOUT, 0};
	f[1] = (struct pollfd){p[1], POLLOUT, 0};
	SAY(poll(f, 2, -1));
	printf("%x %x\n", f[0].revents, f[1].revents);
	SAY(read(p[0], b, 10));
	SAY(poll(f, 1, 10));
	SAY(fcntl(p[0], F_SETFL, O_NONBLOCK));
	SAY(read(p[0], b, 10));
	SAY(fcntl(p[1], F_SETFL, O_NONBLOCK));
	SAY(write(p[1], b, sizeof b));
	SAY(write(p[1], b, 1));
	SAY(poll(f + 1, 1, 0));
	SAY(lseek(p[0], 0, SEEK_SET));
	SAY(pread(p[0], b, 1, 0));
	SAY(close(p[1]));
	SAY(poll(f, 2, 0));
	printf("%x %x\n", f[0].revents, f[1].revents);
	for (i = 0; (n = read(p[0], b, 30000)) > 0; i += n)
		;
	printf("%d\n", i);
	SAY(dup2(p[0], 50));
	SAY(dup3(p[0], p[0], 0));
	SAY(dup2(p[0], p[0]) == p[0]);
	SAY(fcntl(p[0], F_DUPFD, 60));
	SAY(close(50));
	SAY(close(60));
	SAY(close(p[0]));
	pipe(p);
	close(p[0]);
	SAY(write(p[1], "x", 1));
	printf("%d\n", hits);
	close(p[1]);
	SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	SAY(send(s[1], "abc", 3, 0));
	SAY(recv(s[0], b, 10, MSG_WAITALL | MSG_DONTWAIT));
	SAY(send(s[0], "to you", 6, 0));
	SAY(recv(s[1], b, 3, MSG_PEEK));
	SAY(recv(s[1], b, 100, 0));
	SAY(recv(s[1], b, 100, MSG_DONTWAIT));
	SAY(shutdown(s[0], SHUT_WR));
	SAY(read(s[1], b, 10));
	SAY(write(s[1], "back", 4));
	SAY(read(s[0], b, 10));
	SAY(send(s[0], "x", 1, MSG_NOSIGNAL));
	f[0] = (struct pollfd){s[1], POLLIN | POLLRDHUP | POLLOUT, 0};
	SAY(poll(f, 1, 0));
	printf("%x\n", f[0].revents);
	close(s[0]);
	SAY(poll(f, 1, 0));
	printf("%x\n", f[0].revents);
	SAY(write(s[1], "x", 1));
	close(s[1]);
	pipe(p);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(p[0], &r);
	FD_SET(p[1], &w);
	SAY(select(p[1] + 1, &r, &w, 0, &tv));
	printf("%d %d\n", !!FD_ISSET(p[0], &r), !!FD_ISSET(p[1], &w));
	FD_ZERO(&r);
	FD_SET(p[0], &r);
	SAY(select(p[1] + 1, &r, 0, 0, &tv));
	/* a descriptor that is closed, within the 64 that every table has: more are looked at only where the table is as long */
	FD_SET(60, &r);
	SAY(select(61, &r, 0, 0, &tv));
	if (!fork()) {
		usleep(1000);
		write(p[1], "woken", 5);
		_exit(0);
	}
	f[0] = (struct pollfd){p[0], POLLIN, 0};
	SAY(poll(f, 1, -1));
	SAY(read(p[0], b, 10));
	wait(0);
	int e = eventfd(3, EFD_NONBLOCK), ep = epoll_create1(0);
	unsigned long long v = 5;
	struct epoll_event ev = {EPOLLIN | EPOLLET, {.u64 = 77}}, got[4];
	SAY(write(e, &v, 8));
	SAY(read(e, &v, 8));
	printf("%lld\n", (long long)v);
	SAY(read(e, &v, 8));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev));
	SAY(epoll_wait(ep, got, 4, 0));
	write(e, &v, 8);
	SAY(epoll_wait(ep, got, 4, -1));
	printf("%x %lld\n", got[0].events, (long long)got[0].data.u64);
	SAY(epoll_wait(ep, got, 4, 0));
	write(e, &v, 8);
	SAY(epoll_wait(ep, got, 4, 0));
	ev.events = EPOLLIN | EPOLLONESHOT;
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev));
	SAY(epoll_wait(ep, got, 4, 0));
	SAY(epoll_wait(ep, got, 4, 0));
	SAY(epoll_ctl(ep, EPOLL_CTL_DEL, e, 0));
	SAY(epoll_ctl(ep, EPOLL_CTL_DEL, e, 0));
	SAY(fcntl(p[1], F_GETPIPE_SZ));
	SAY(fcntl(p[1], F_SETPIPE_SZ, 5000));
	SAY(close_range(e, ep, 0));
	SAY(close(ep));
	struct flock l = {F_WRLCK, SEEK_SET, 10, 10, 0};
	int fd = open("locked", O_RDWR | O_CREAT, 0600);
	SAY(fcntl(fd, F_SETLK, &l));
	fflush(stdout);
	if (!fork()) {
		struct flock k = {F_WRLCK, SEEK_SET, 15, 1, 0};
		SAY(fcntl(fd, F_SETLK, &k));
		k.l_start = 20;
		SAY(fcntl(fd, F_SETLK, &k));
		k = (struct flock){F_RDLCK, SEEK_SET, 0, 0, 0};
		SAY(fcntl(fd, F_GETLK, &k));
		printf("%d %d %d %d\n", k.l_type, (int)k.l_start, (int)k.l_len, k.l_pid == getppid());
		k = (struct flock){F_RDLCK, SEEK_SET, 0, 0, 0};
		close(open("locked", O_RDONLY));
		SAY(fcntl(fd, F_SETLKW, &k));
		fflush(stdout);
		_exit(0);
	}
	usleep(100000);
	l.l_type = F_UNLCK;
	l.l_start = 12;
	l.l_len = 2;
	SAY(fcntl(fd, F_SETLK, &l));
	usleep(100000);
	close(open("locked", O_RDONLY)); /* all of them go */
	wait(0);
}

static void memory(void)
{
	char b[10];
	int p[2], m = memfd_create("name", MFD_CLOEXEC);
	pipe(p);
	SAY(write(m, "abc", 3));
	SAY(sendfile(p[1], m, &(off_t){1}, 10));
	SAY(read(p[0], b, 10));
	SAY(fcntl(m, F_GETFD));
	SAY(ftruncate(m, 2));
	SAY(close(m));
}

/* From one file to another: what has not gone can still be read, and a file is not copied into itself. */
static void copies(void)
{
	static char full[4096];
	char b[100];
	int p[2], q[2], fd = open("copies", O_RDWR | O_CREAT | O_TRUNC, 0600), end = open("copies", O_WRONLY | O_APPEND);
	unlink("copies");
	SAY(write(fd, "0123456789", 10));
	SAY(syscall(SYS_copy_file_range, fd, &(loff_t){0}, fd, &(loff_t){4}, 5, 0));
	SAY(syscall(SYS_copy_file_range, fd, &(loff_t){6}, fd, &(loff_t){2}, 100, 0));
	SAY(syscall(SYS_copy_file_range, fd, &(loff_t){0}, fd, &(loff_t){5}, 5, 0));
	SAY(syscall(SYS_copy_file_range, fd, &(loff_t){0}, end, NULL, 5, 0));
	SAY(pread(fd, b, 100, 0));
	SAY(b[9]);
	pipe2(p, O_NONBLOCK);
	SAY(sendfile(end, fd, &(off_t){0}, 3));
	while (write(p[1], full, sizeof full) > 0)
		;
	lseek(fd, 3, SEEK_SET);
	SAY(sendfile(p[1], fd, NULL, 3));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(sendfile(fd, fd, &(off_t){0}, 0));
	pipe2(q, O_NONBLOCK);
	SAY(write(q[1], "pipe", 4));
	SAY(splice(q[0], NULL, p[1], NULL, 4, SPLICE_F_NONBLOCK));
	SAY(read(q[0], b, 100));
}

int main(int argc, char **argv)
{
	(void)argc;
	if (!strcmp(argv[1], "regular"))
		regular();
	else if (!strcmp(argv[1], "names"))
		names();
	else if (!strcmp(argv[1], "memory"))
		memory();
	else if (!strcmp(argv[1], "copies"))
		copies();
	else
		pipes();
	return 0;
}
