/* What execve puts on the stack: argc, argv, envp, auxv, aligned, in one piece. */
#include "probe.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

extern char **environ;
extern void _start(void);

int main(int argc, char **argv)
{
	if (argc == 1) {
		char *words[] = {argv[0], "a", "", "three", NULL}, *strings[] = {"X=y", "Z=", NULL};
		execve(argv[0], words, strings);
		return 1;
	}
	unsigned long *auxv = NULL;
	char **at = environ;
	while (*at)
		at++;
	auxv = (unsigned long *)(at + 1);
	say("argc %d, argv ends %d, envp behind it %d", argc, argv[argc] == NULL, environ == argv + argc + 1);
	say("argc below argv: %ld, aligned %d", ((long *)argv)[-1], (int)((uintptr_t)(argv - 1) % 16));
	char *last = argv[0];
	int in_a_row = 1;
	for (char **word = argv; *word; word++)
		in_a_row &= *word == last, last = *word + strlen(*word) + 1;
	for (char **word = environ; *word; word++)
		in_a_row &= *word == last, last = *word + strlen(*word) + 1;
	say("strings in a row %d, then the name %s", in_a_row, last == (char *)getauxval(AT_EXECFN) ? last : "elsewhere");
	say("the end of the stack is behind it: %d", ((uintptr_t)last + strlen(last) + 1 + sizeof(long)) % PAGE == 0);
	int seen = 0, ends = 0;
	for (int i = 0; i < 80 && !ends; i += 2) {
		seen += auxv[i] == AT_PAGESZ || auxv[i] == AT_PHDR || auxv[i] == AT_ENTRY || auxv[i] == AT_RANDOM || auxv[i] == AT_UID;
		ends = auxv[i] == AT_NULL;
	}
	say("found %d, ends %d", seen, ends);
	say("page %lu, tick %lu, secure %lu, phent %lu, base %lu, flags %lu", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK), getauxval(AT_SECURE),
	    getauxval(AT_PHENT) - sizeof(ElfW(Phdr)), getauxval(AT_BASE), getauxval(AT_FLAGS));
	say("entry %d, ids %d %d %d %d", getauxval(AT_ENTRY) == (uintptr_t)_start, getauxval(AT_UID) == getuid(), getauxval(AT_EUID) == geteuid(),
	    getauxval(AT_GID) == getgid(), getauxval(AT_EGID) == getegid());
	ElfW(Phdr) *header = (void *)getauxval(AT_PHDR);
	int loads = 0;
	for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
		loads += header[i].p_type == PT_LOAD;
	say("program headers are there: %d", loads > 1);
	char *random = (char *)getauxval(AT_RANDOM);
	int zero = 1;
	for (int i = 0; i < 16; i++)
		zero &= !random[i];
	say("random bytes %d, platform %s", !zero, (char *)getauxval(AT_PLATFORM));
	int here;
	say("on the stack: %d", (uintptr_t)random > (uintptr_t)&here && (uintptr_t)random - (uintptr_t)&here < (1 << 20));
	return 0;
}
