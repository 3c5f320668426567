/* MAP_GROWSDOWN: grows by faults below it, up to the gap before its neighbour: 256 pages since 4.12, none in 2004. */
#include "probe.h"

static char *at;

static int grows(void)
{
	at[-1] = 'b';
	at[-1 - 3 * PAGE] = 'c';
	say("grown: %c%c%d", at[-1], at[-1 - 3 * PAGE], at[-1 - 2 * PAGE]);
	for (int i = 4; i < 300; i++)
		if (*touched(at - i * PAGE, 1) == 's')
			return 0;
	say("300 pages");
	return 0;
}

static int meets(void)
{
	char *below = mmap(at - 300 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	below[0] = 'n';
	int page = 1;
	while (page < 320 && *touched(at - page * PAGE, 1) != 's')
		page++;
	say("refused at page %d, neighbour %c", page, below[0]);
	return 0;
}

static int in_bounds(void)
{
	say("mprotect of a part: %s", came(mprotect(at, PAGE, PROT_READ)));
	say("below it: %s", touched(at - 1, 0));
	say("the part: %s", touched(at, 1));
	return 0;
}

int main(void)
{
	char *room = pages(1024, PROT_NONE, MAP_PRIVATE);
	munmap(room, 1024 * PAGE);
	at = mmap(room + 512 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
	at[0] = 'a';
	say("%s", in_child(grows));
	say("%s", in_child(meets));
	say("%s", in_child(in_bounds));
	return 0;
}
