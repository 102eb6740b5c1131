/* Over OpenSSL's: what includes it uses sockets, too. */
#include_next <openssl/ssl.h>
#include "sockets.h"
