/* Run a program, and print the time at which it was started and that at its end, in seconds of the monotonic clock, and
 * the peak of its resident memory in kB. A small process of its own, since the peak of a program includes that of the
 * process which starts it. POSIX. */

#define _DEFAULT_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    const double start = now();
    int status;
    const pid_t child = argc < 2 ? -1 : fork();
    if (child < 0) return 1;
    if (child == 0) {
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (wait4(child, &status, 0, &usage) != child || status) return 1;
    printf("\n%.6f %.6f %ld\n", start, now(), usage.ru_maxrss);
    return 0;
}
