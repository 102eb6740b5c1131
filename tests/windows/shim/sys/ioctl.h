/* Nothing of it is called: for tests/network.h, which uses sockets. */
#include "../sockets.h"
