/* Nothing of it is called: for tests/network.h to compile. */
