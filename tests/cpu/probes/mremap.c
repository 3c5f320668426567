/* mremap: pages that are shared with a child go on being the same page where they are moved to; growth, shrinking, what is refused.
 * Kernels before 2.6.8 also take old length 0 for a copy of a private mapping; MREMAP_DONTUNMAP is of 5.7. */
#include "probe.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

int main(void)
{
	int up[2], down[2];
	char c;
	if (pipe(up) || pipe(down))
		return 1;
	char *shared = pages(4, PROT_READ | PROT_WRITE, MAP_SHARED), *private = pages(4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (int i = 0; i < 4; i++)
		shared[i * PAGE] = 'a' + i, private[i * PAGE] = 'A' + i;
	pid_t pid = fork();
	if (!pid) {
		if (read(down[0], &c, 1) != 1)
			_exit(1);
		say("child: shared %c%c, private %c%c", shared[0], shared[3 * PAGE], private[0], private[3 * PAGE]);
		shared[PAGE] = 'C';
		private[PAGE] = 'X';
		if (write(up[1], "x", 1) != 1)
			_exit(1);
		_exit(0);
	}
	char *room = pages(16, PROT_NONE, MAP_PRIVATE);
	char *moved = mremap(shared, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	char *other = mremap(private, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 8 * PAGE);
	say("moved to where it was told: %d %d", moved == room, other == room + 8 * PAGE);
	say("where it was: %s %s", touched(shared, 0), touched(private, 0));
	moved[0] = 'M';
	other[0] = 'N';
	if (write(down[1], "x", 1) != 1 || read(up[0], &c, 1) != 1)
		return 1;
	waitpid(pid, NULL, 0);
	say("parent: shared %c%c, private %c%c", moved[0], moved[PAGE], other[0], other[PAGE]);

	say("shrunk: %s", mapped(mremap(other, 4 * PAGE, 2 * PAGE, 0)));
	say("behind it: %s", touched(other + 2 * PAGE, 0));
	char *grown = mremap(other, 2 * PAGE, 3 * PAGE, 0);
	say("grown in place: %d, new page %d, old %c%c", grown == other, grown[2 * PAGE], grown[0], grown[PAGE]);
	say("no room: %s", mapped(mremap(moved, 4 * PAGE, 5 * PAGE, 0)));
	moved = mremap(moved, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	say("moved for room: %s, %c%c", mapped(moved), moved[0], moved[3 * PAGE]);
	say("beyond what is shared: %s", touched(moved + 10 * PAGE, 0));
	say("no such mapping: %s", mapped(mremap(room, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
	say("not at a page: %s", mapped(mremap(grown + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
	say("to length 0: %s", mapped(mremap(grown, PAGE, 0, MREMAP_MAYMOVE)));
	say("fixed, may not move: %s", mapped(mremap(grown, PAGE, PAGE, MREMAP_FIXED, room)));
	say("onto itself: %s", mapped(mremap(grown, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, grown + PAGE)));
	say("unknown flag: %s", mapped(mremap(grown, PAGE, PAGE, 64)));
	char *twin = mremap(moved, 0, PAGE, MREMAP_MAYMOVE);
	say("a second mapping of a shared page: %s", mapped(twin));
	moved[0] = 'T';
	say("the same page: %c", twin[0]);
	say("of a private one: %s", mapped(mremap(grown, 0, PAGE, MREMAP_MAYMOVE)));
	char *left = mremap(grown, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	if (left == MAP_FAILED)
		say("left: %s", came(-1));
	else
		say("left: %d, moved: %c", grown[0], left[0]);
	return 0;
}
