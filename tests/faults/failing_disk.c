/* A disk that fails, for one process: preloaded, it lets calls on chosen files fail with EIO.

   COE_FAILING_DISK names a file. While it is there, its text says what fails: "read PART" or "write PART", of
   all files whose path has PART in it; fsync counts as a write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(int descriptor, const char *kind) {
    const char *orders = getenv("COE_FAILING_DISK");
    char order[256], link[64], path[4096];
    if (!orders) return 0;
    int file = syscall(SYS_openat, AT_FDCWD, orders, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return 0;
    ssize_t length = syscall(SYS_read, file, order, sizeof order - 1);
    syscall(SYS_close, file);
    if (length <= 0) return 0;
    order[length] = 0;
    char *part = strchr(order, ' ');
    if (!part) return 0;
    *part++ = 0;
    if (strcmp(order, kind)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, part)) return 0;
    errno = EIO;
    return 1;
}

#define CALL(kind, result, name, parameters, arguments)                                \
    result name parameters {                                                           \
        static result(*real) parameters;                                               \
        if (fails(descriptor, kind)) return -1;                                        \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);               \
        return real arguments;                                                         \
    }

CALL("read", ssize_t, read, (int descriptor, void *to, size_t size), (descriptor, to, size))
CALL("read", ssize_t, pread64, (int descriptor, void *to, size_t size, off64_t at), (descriptor, to, size, at))
CALL("read", ssize_t, preadv64, (int descriptor, const struct iovec *to, int count, off64_t at),
     (descriptor, to, count, at))
CALL("read", ssize_t, preadv64v2, (int descriptor, const struct iovec *to, int count, off64_t at, int flags),
     (descriptor, to, count, at, flags))
CALL("write", ssize_t, write, (int descriptor, const void *from, size_t size), (descriptor, from, size))
CALL("write", ssize_t, pwrite64, (int descriptor, const void *from, size_t size, off64_t at),
     (descriptor, from, size, at))
CALL("write", int, fsync, (int descriptor), (descriptor))
CALL("write", int, fdatasync, (int descriptor), (descriptor))
