/*
 * Tells what a process does with its journal, in the order in which it does it. Loaded with
 * LD_PRELOAD; adds a line to the file that SYNCS_LOG names:
 *
 *   w    a frame was begun in a file whose name ends in -wal
 *   c    the same, and it is the one that ends a transaction
 *   p    something else was written there: a frame's page, or the head of the file
 *   s    such a file was synced, and the system says that it was done
 *   a N  N was written to a file whose name ends in .lock: entry N was acknowledged
 *
 * A frame starts with a header of 24 bytes that SQLite writes on its own; the number at byte 4
 * is not zero in the last frame of a transaction (https://sqlite.org/fileformat2.html#walformat).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { OTHER, WAL, LOCK };

static enum kind kind_of(int fd) {
  char link[64], name[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name);
  if (length >= 4 && memcmp(name + length - 4, "-wal", 4) == 0) return WAL;
  if (length >= 5 && memcmp(name + length - 5, ".lock", 5) == 0) return LOCK;
  return OTHER;
}

static void tell(const char *line, size_t length) {
  static int log = -2;
  if (log == -2) {
    const char *path = getenv("SYNCS_LOG");
    log = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  }
  /* Not through write(), which is ours. */
  if (log >= 0) syscall(SYS_write, log, line, length);
}

static void written(int fd, const void *bytes, ssize_t length) {
  int before = errno;
  if (length > 0) {
    const unsigned char *byte = bytes;
    switch (kind_of(fd)) {
      case WAL:
        if (length != 24) tell("p\n", 2);
        else tell(byte[4] | byte[5] | byte[6] | byte[7] ? "c\n" : "w\n", 2);
        break;
      case LOCK: {
        char line[64];
        int size = snprintf(line, sizeof line, "a %ld\n", strtol(bytes, NULL, 10));
        tell(line, (size_t)size);
        break;
      }
      case OTHER:
        break;
    }
  }
  errno = before;
}

static int synced(int fd, int result) {
  int before = errno;
  if (result == 0 && kind_of(fd) == WAL) tell("s\n", 2);
  errno = before;
  return result;
}

#define REAL(type, name, ...)                                    \
  static type (*real)(__VA_ARGS__);                              \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t length) {
  REAL(ssize_t, write, int, const void *, size_t);
  ssize_t result = real(fd, bytes, length);
  written(fd, bytes, result);
  return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
  ssize_t result = real(fd, bytes, length, offset);
  written(fd, bytes, result);
  return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
  ssize_t result = real(fd, bytes, length, offset);
  written(fd, bytes, result);
  return result;
}

int fsync(int fd) {
  REAL(int, fsync, int);
  return synced(fd, real(fd));
}

int fdatasync(int fd) {
  REAL(int, fdatasync, int);
  return synced(fd, real(fd));
}
