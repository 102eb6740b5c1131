/* The implementation as Microsoft's compiler reads it: its own branches, and nothing of GNU's.  The
   system's headers of mingw-w64 come before, as only a compiler of GNU's kind can read them. */
#include <errno.h>
#include <fcntl.h>
#include <intrin.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <bcrypt.h>
#include <wincrypt.h>
#include <bearssl.h>

#undef __GNUC__
#undef __GNUC_MINOR__
#undef __clang__
#undef __MINGW32__
#undef __MINGW64__
#define _MSC_VER 1930

#define HTTPSBIND_IMPLEMENTATION
#define HTTPSBIND_ACME
#include "httpsbind.h"
