/* Code that is made at run time: written, run, changed and run again; in a private page after a fork, in a shared one, in a file. */
#include "probe.h"

/* mov $value, %eax; ret */
static void make(char *at, int value)
{
	at[0] = (char)0xb8;
	memcpy(at + 1, &value, 4);
	at[5] = (char)0xc3;
}

static int run(char *at) { return ((int (*)(void))at)(); }

static char *code, *shared;

static int child(void)
{
	say("child runs %d, shared %d", run(code), run(shared));
	make(code, 30);
	make(shared, 40);
	say("child then %d, shared %d", run(code), run(shared));
	return 0;
}

int main(void)
{
	code = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
	shared = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED);
	for (int i = 1; i < 4; i++) {
		make(code, i);
		say("%d", run(code));
	}
	make(shared, 20);
	say("shared %d", run(shared));
	say("%s", in_child(child));
	say("parent still %d, shared %d", run(code), run(shared));
	/* over the border of two pages */
	make(code + PAGE - 3, 50);
	say("across %d", run(code + PAGE - 3));
	madvise(code, PAGE, MADV_DONTNEED);
	make(code, 60);
	say("a new page %d", run(code));
	munmap(code, PAGE);
	char *again = mmap(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	make(again, 70);
	say("a new mapping %d", run(code));
	int fd = file_of(PAGE, 'f');
	char *file = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	char text[6];
	for (int i = 80; i < 83; i++) {
		make(text, i);
		if (pwrite(fd, text, 6, 0) == 6)
			say("a file %d", run(file));
	}
	/* the same page twice: written here, run there */
	int memory = file_of(PAGE, 0);
	char *writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	char *runnable = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, memory, 0);
	for (int i = 90; i < 93; i++) {
		make(writable, i);
		say("twice %d", run(runnable));
	}
	for (int i = 95; i < 98; i++) {
		make(text, i);
		lseek(fd, 0, SEEK_SET);
		if (pwrite(fd, text, 6, 0) == 6 && read(fd, code, 6) == 6)
			say("read into memory %d", run(code));
	}
	/* a frame that was code goes to others as data, and back */
	for (int i = 0; i < 20; i++) {
		char *at = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
		make(at, i);
		if (run(at) != i)
			say("odd: %d is %d", i, run(at));
		munmap(at, PAGE);
	}
	/* it changes itself: the value of the second instruction that follows */
	static const unsigned char itself[] = {0xe8, 0, 0, 0, 0, 0x59, 0xc7, 0x41, 0x08, 7, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xc3};
	unsigned char copy[sizeof itself];
	memcpy(copy, itself, sizeof itself);
	copy[8] = 0x09; /* from the popped address 5 to the word of the mov at 14 */
	memcpy(code, copy, sizeof copy);
	say("itself %d", run(code));
	return 0;
}
