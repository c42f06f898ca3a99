/* Makes the calls fail with which SQLite writes the files of a store; for LD_PRELOAD.
 *
 * FAILING_IO=CALL:ERRNO:AFTER:COUNT:FILE says which call (pwrite, fdatasync, pread), with which errno, after how many of
 * them in one process, how many then fail, and a file: while it is not there nothing fails. FILE.failed is made when
 * something does. Only descriptors of files whose names contain "queues.db" count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char call_name[16], switch_file[4096];
static int failure, is_read;
static long after, count, seen;

static int is_stores(int fd)
{
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0)
        return 0;
    name[length] = 0;
    return strstr(name, "queues.db") != NULL;
}

static void read_setting(void)
{
    const char *setting = getenv("FAILING_IO");
    is_read = 1;
    if (setting != NULL)
        sscanf(setting, "%15[^:]:%d:%ld:%ld:%4095s", call_name, &failure, &after, &count, switch_file);
}

static int must_fail(const char *name, int fd)
{
    if (!is_read)
        read_setting();
    if (strcmp(name, call_name) != 0 || !is_stores(fd) || access(switch_file, F_OK) != 0)
        return 0;
    seen++;
    if (seen <= after || seen > after + count)
        return 0;
    char mark[4200];
    snprintf(mark, sizeof mark, "%s.failed", switch_file);
    close(open(mark, O_WRONLY | O_CREAT, 0600));
    errno = failure;
    return 1;
}

#define REAL(type, name) \
    static type real; \
    if (real == NULL) \
        real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*writer)(int, const void *, size_t, off_t);
typedef ssize_t (*reader)(int, void *, size_t, off_t);
typedef int (*syncer)(int);

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL(writer, "pwrite");
    return must_fail("pwrite", fd) ? -1 : real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(writer, "pwrite64");
    return must_fail("pwrite", fd) ? -1 : real(fd, data, size, at);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at)
{
    REAL(reader, "pread64");
    return must_fail("pread", fd) ? -1 : real(fd, data, size, at);
}

int fdatasync(int fd)
{
    REAL(syncer, "fdatasync");
    return must_fail("fdatasync", fd) ? -1 : real(fd);
}

int fsync(int fd)
{
    REAL(syncer, "fsync");
    return must_fail("fdatasync", fd) ? -1 : real(fd);
}
