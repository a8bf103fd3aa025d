/* Loaded before the C library (LD_PRELOAD), this lets calls fail as on a file system that does not support them, and
   shifts the clock. Only paths that begin with SHIM_UNDER are affected. SHIM_FLOCK, SHIM_FSYNC_FOLDER and SHIM_RENAME
   are the error numbers of these calls; SHIM_CLOCK names a file with the seconds by which the clock is wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int concerned(const char *path)
{
    const char *under = getenv("SHIM_UNDER");
    return under != NULL && strncmp(path, under, strlen(under)) == 0;
}

static int open_is_concerned(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return concerned(path);
}

static int fails(const char *name)
{
    const char *error = getenv(name);
    if (error == NULL)
        return 0;
    errno = atoi(error);
    return 1;
}

int flock(int fd, int operation)
{
    if (open_is_concerned(fd) && fails("SHIM_FLOCK"))
        return -1;
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, operation);
}

int fsync(int fd)
{
    struct stat found;
    if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode) && open_is_concerned(fd) && fails("SHIM_FSYNC_FOLDER"))
        return -1;
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int rename(const char *from, const char *to)
{
    if (concerned(to) && fails("SHIM_RENAME"))
        return -1;
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *name = getenv("SHIM_CLOCK");
    if (result == 0 && clock == CLOCK_REALTIME && name != NULL) {
        char text[32] = "";
        int file = open(name, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0)
                now->tv_sec += atol(text);
            close(file);
        }
    }
    return result;
}
