// Preloaded into a process: numbers its calls on files below one folder, writes them down, and ends
// the process (or refuses the call) at a chosen one. Not a sandbox: everything else passes through.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { kNothing, kKillBefore, kKillHalfway, kKillAfter, kRefuseOnce, kRefuseFromHere };
enum { kMostFiles = 4096 };

static char folder[4096];
static size_t folder_length;
static int mode, trace = -1;
static long chosen, calls;
static unsigned char watched[kMostFiles];

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// From now on calls below `below` are numbered from 1; `action` happens at call `at`.
void interpose_start(const char* below, int action, long at, int trace_to) {
  folder_length = strlen(below);
  if (folder_length >= sizeof folder) folder_length = 0;
  memcpy(folder, below, folder_length);
  mode = action;
  chosen = at;
  calls = 0;
  trace = trace_to;
}

static int is_below(const char* path) {
  return folder_length && strncmp(path, folder, folder_length) == 0;
}

static int is_watched(int file) { return file >= 0 && file < kMostFiles && watched[file]; }

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Before a call; whether it is refused. `grows`: a full disk would refuse it.
static int refused(int grows) {
  ++calls;
  if (calls == chosen && (mode == kKillBefore)) die();
  const int here = mode == kRefuseFromHere ? calls >= chosen : calls == chosen;
  if (grows && here && chosen && (mode == kRefuseOnce || mode == kRefuseFromHere)) {
    errno = ENOSPC;
    return 1;
  }
  return 0;
}

static void done(void) {
  if (calls == chosen && (mode == kKillAfter || mode == kKillHalfway)) die();
}

// One record: a line of the call's name, two numbers, a path or two; then the bytes written.
static void record(const char* name, long a, long b, const char* path, const char* other,
                   const void* bytes) {
  if (trace < 0) return;
  char line[2 * sizeof folder + 64];
  const int length = snprintf(line, sizeof line, "%s\t%ld\t%ld\t%s\t%s\n", name, a, b, path, other);
  const __typeof__(&write) put = NEXT(write);
  if (put(trace, line, (size_t)length) != length) die();
  if (bytes && b > 0 && put(trace, bytes, (size_t)b) != b) die();
}

static int opened(__typeof__(&open) next, const char* path, int flags, mode_t bits) {
  if (!is_below(path)) return next(path, flags, bits);
  const int existed = access(path, F_OK) == 0;
  if (refused((flags & O_CREAT) && !existed)) return -1;
  const int file = next(path, flags, bits);
  const int error = errno;
  if (file >= 0 && file < kMostFiles) watched[file] = 1;
  if (file >= 0) record("open", file, flags, path, existed ? "old" : "new", NULL);
  if (file < 0) record("missed", 0, flags, path, "", NULL);
  done();
  errno = error;
  return file;
}

#define OPEN(name)                                \
  int name(const char* path, int flags, ...) {    \
    mode_t bits = 0;                              \
    if (flags & O_CREAT) {                        \
      va_list rest;                               \
      va_start(rest, flags);                      \
      bits = va_arg(rest, mode_t);                \
      va_end(rest);                               \
    }                                             \
    return opened(NEXT(name), path, flags, bits); \
  }
OPEN(open)
OPEN(open64)

int close(int file) {
  if (is_watched(file)) watched[file] = 0;
  return NEXT(close)(file);
}

ssize_t write(int file, const void* bytes, size_t size) {
  const __typeof__(&write) next = NEXT(write);
  if (!is_watched(file)) return next(file, bytes, size);
  if (refused(1)) return -1;
  if (calls == chosen && mode == kKillHalfway) size /= 2;
  const ssize_t written = next(file, bytes, size);
  record("write", file, (long)written, "", "", bytes);
  done();
  return written;
}

int fsync(int file) {
  if (!is_watched(file)) return NEXT(fsync)(file);
  if (refused(1)) return -1;
  const int result = NEXT(fsync)(file);
  record("fsync", file, 0, "", "", NULL);
  done();
  return result;
}

int rename(const char* from, const char* to) {
  if (!is_below(from) && !is_below(to)) return NEXT(rename)(from, to);
  if (refused(1)) return -1;
  const int result = NEXT(rename)(from, to);
  if (result == 0) record("rename", 0, 0, from, to, NULL);
  done();
  return result;
}

int unlink(const char* path) {
  if (!is_below(path)) return NEXT(unlink)(path);
  if (refused(0)) return -1;
  const int result = NEXT(unlink)(path);
  if (result == 0) record("unlink", 0, 0, path, "", NULL);
  done();
  return result;
}

int mkdir(const char* path, mode_t bits) {
  if (!is_below(path)) return NEXT(mkdir)(path, bits);
  if (refused(1)) return -1;
  const int result = NEXT(mkdir)(path, bits);
  const int error = errno;
  record(result == 0 ? "mkdir" : "missed", 0, 0, path, "", NULL);
  done();
  errno = error;
  return result;
}
