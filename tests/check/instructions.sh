#!/bin/sh
# A request on a connection that is kept alive takes no more instructions of the header and the C
# library than it did, with a margin of some 5 % for other compilers and libraries: callgrind
# counts them.  `tests/bench/instructions.py` says which functions they are of.
set -eu
tls12=5020      # 4,774 with gcc 12 and glibc 2.36
tls13=5440      # 5,176
for tool in valgrind python3; do
    command -v $tool >/dev/null || { echo "    no $tool here: skipped"; exit 0; }
done
python3 tests/bench/instructions.py --at-most "1.2=$tls12" "1.3=$tls13"
