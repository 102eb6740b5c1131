/* Included before an example that is linked with an implementation that was compiled once for all
   of them (-DHTTPSBIND_DONE): what the implementation includes.                            */
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#undef HTTPSBIND_IMPLEMENTATION
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <bearssl.h>
