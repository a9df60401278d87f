/* Loaded before User-Mode Linux, whose idea of a processor's floating point registers ends with AVX-512.
 *
 * The host's kernel takes all of them or nothing (ptrace, PTRACE_SETREGSET): where there are more, those that User-Mode
 * Linux does not know stay as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

typedef long (*ptrace_t)(int, int, void *, void *);

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_t real;
	static _Thread_local char state[1 << 16];
	va_list arguments;
	va_start(arguments, request);
	int process = va_arg(arguments, int);
	void *address = va_arg(arguments, void *), *data = va_arg(arguments, void *);
	va_end(arguments);
	if (!real)
		real = (ptrace_t)dlsym(RTLD_NEXT, "ptrace");
	struct iovec whole = {state, sizeof state}, *given = data;
	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE &&
	    !real(PTRACE_GETREGSET, process, address, &whole) && given->iov_len < whole.iov_len) {
		memcpy(state, given->iov_base, given->iov_len);
		data = &whole;
	}
	return real(request, process, address, data);
}
