/* Everything of it is in ssl.h. */
#include <openssl/ssl.h>
