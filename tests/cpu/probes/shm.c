/* Segments of shared memory: two that attach, rights, a removal that waits for the last one, a child that has them too. */
#include "probe.h"
#include <sys/ipc.h>
#include <sys/shm.h>

static char *at;

static int child(void)
{
	say("in a child: %c", at[0]);
	at[1] = 'c';
	return 0;
}

int main(void)
{
	int id = shmget(IPC_PRIVATE, 3 * PAGE - 100, IPC_CREAT | 0600);
	say("shmget %s", came(id));
	at = shmat(id, NULL, 0);
	char *second = shmat(id, NULL, SHM_RDONLY);
	say("attached %s %s", mapped(at), mapped(second));
	at[0] = 's';
	say("both %c, to its last page %s, behind it %s", second[0], touched(at + 3 * PAGE - 1, 1), touched(second, 1));
	say("%s, %c", in_child(child), second[1]);
	say("where something is: %s, may be replaced: %d", mapped(shmat(id, at, 0)), shmat(id, at, SHM_REMAP) == at);
	say("not at a page: %s, rounded: %s", mapped(shmat(id, (char *)77, 0)), mapped(shmat(id, at + 5, SHM_RND | SHM_REMAP)));
	say("too large: %s", came(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600)));
	say("removed %s", came(shmctl(id, IPC_RMID, NULL)));
	say("still there: %c", at[0]);
	say("dt %s %s, again %s", came(shmdt(second)), came(shmdt(at)), came(shmdt(at)));
	say("gone: %s", mapped(shmat(id, NULL, 0)));
	say("the pages are gone: %s", touched(at, 0));
	id = shmget(0x5eed, PAGE, IPC_CREAT | IPC_EXCL | 0600);
	say("by a key: %s, again: %s", came(id), came(shmget(0x5eed, PAGE, IPC_CREAT | IPC_EXCL | 0600)));
	say("found: %d, larger: %s", shmget(0x5eed, PAGE, 0) == id, came(shmget(0x5eed, 9 * PAGE, 0)));
	shmctl(id, IPC_RMID, NULL);
	say("then: %s", came(shmget(0x5eed, PAGE, 0)));
	return 0;
}
