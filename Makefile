# httpsbind.h is one header: to use it, nothing has to be built.  This file builds its
# examples and runs its tests, with GNU make.
#
#   make deps run    install what is missing (Debian), then serve examples/site
#   make deps test   the same, then the tests that everybody should run
#   make all         every example, into build/examples
#   make deps-check  install what check, fuzz, bench and coverage need beyond deps
#   make check       the tests again in other builds (sanitizers, poll, failing memory),
#                    every compiler and standard, the static checks, a short fuzz
#   make check-portable   with 32 bits, and big-endian: an hour or so, so not in check
#   make fuzz        T seconds for every fuzz target
#   make bench       side by side with nginx and others, where they are installed (15 minutes)
#   make soak        one server under good and bad clients for T seconds (600)
#   make coverage    which lines and branches of the header the tests reach
#   make mutate      whether the tests notice N wrong lines (250); an hour or more
#   make install     the header, httpsbind.pc and manual pages, below DESTDIR and PREFIX
#   make clean

# As many jobs as processors: programs are built, and fuzz targets run, side by side.
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 1)

CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
# A BearSSL built from source, instead of the installed one: make BEARSSL=dir ...
BEARSSL ?=
# What `make run` hands to serve besides the folder: make run ARGS='--port 9000'
ARGS ?=
# Which test programs `make test` builds and runs: make test WHICH='unit/head tls/*'
WHICH ?= unit/* wire/* live/* tls/* acme/*
# Another build of the tests is another OUT with other FLAGS: see check below.
OUT ?= build/tests
FLAGS ?=
# Seconds that `make fuzz` gives to each target, and where they are built.
T ?= 60
FUZZ ?= build/fuzz

include_tls := -I. $(if $(BEARSSL),-isystem $(BEARSSL)/inc)
link_tls    := $(if $(BEARSSL),$(BEARSSL)/build/libbearssl.a,-lbearssl)
export BEARSSL

all:

# --- what has to be installed ---------------------------------------------------------

DEPS = gcc libc6-dev libbearssl-dev libcmocka-dev libcurl4-openssl-dev libssl-dev \
       openssl curl pkg-config
DEPS_CHECK = g++ clang libclang-rt-dev llvm clang-tidy cppcheck shellcheck musl-tools tcc \
             $(if $(filter x86_64,$(shell uname -m)),gcc-multilib) \
             gcc-mingw-w64-x86-64 wine64 dpkg-dev \
             libevent-dev libuv1-dev valgrind strace \
             chromium firefox-esr nginx-light libnginx-mod-stream haproxy wrk wget \
             libmicrohttpd-dev \
             gnutls-bin sslscan testssl.sh libnss3-tools pebble certbot iproute2 systemd golang-go \
             default-jdk-headless \
             python3 python3-requests python3-websockets node-ws mandoc

deps:
	@tests/deps.sh $(DEPS)
deps-check: deps
	@tests/deps.sh $(DEPS_CHECK)
	@tests/node.sh mlkem@2.7.0

# Where one of them is asked for in the same breath, it comes before all that is built.
first := $(filter deps deps-check clean,$(MAKECMDGOALS))

# --- examples -------------------------------------------------------------------------

# Two of them show a loop that is not ours, and are built where its library is.
libuv    := $(shell pkg-config --libs libuv 2>/dev/null)
libevent := $(shell pkg-config --libs libevent 2>/dev/null)
missing  := $(if $(libuv),,examples/libuv_loop.c) $(if $(libevent),,examples/libevent_loop.c)
# build/examples, or build/asan/examples beside the tests of that build (OUT, FLAGS: below).
examples := $(patsubst build/tests,build,$(OUT))/examples
EXAMPLES := $(patsubst %.c,$(dir $(examples))%,$(filter-out $(missing),$(wildcard examples/*.c)))

$(examples)/libuv_loop:    libs = $(libuv)
$(examples)/libevent_loop: libs = $(libevent)

all: $(EXAMPLES)

$(examples)/%: examples/%.c examples/common.h examples/posix.h httpsbind.h | $(first)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(FLAGS) $(include_tls) -o $@ $< $(link_tls) $(libs)

run: build/examples/serve
	build/examples/serve $(ARGS) examples/site

# --- tests ----------------------------------------------------------------------------

# Each tests/*/NAME.c of these folders is one program.
TESTS := $(patsubst tests/%.c,$(OUT)/%,$(wildcard $(patsubst %,tests/%.c,$(WHICH))))

# The last one is for clang and glibc 2.43, whose <string.h> brings _Generic into our lines; gcc,
# which does not know it, is silent and says whether we use C11 ourselves.
strict     = -std=c99 -Wall -Wextra -pedantic -Wconversion -Wshadow -Werror -Wno-c11-extensions
test_flags = $(strict) -O1 -g -D_GNU_SOURCE $(FLAGS) $(include_tls) -Itests
test_libs  = -lcmocka -lcurl -lssl -lcrypto $(link_tls) -lpthread

test: $(TESTS)
	@EXAMPLES=$(examples) tests/run.sh $^

$(OUT)/live/events: examples/dashboard.c
$(OUT)/%: tests/%.c httpsbind.h $(wildcard tests/*.h tests/*/*.h) | $(first)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(test_flags) -o $@ $< $(test_libs)

$(OUT)/live/examples $(addprefix $(OUT)/live/examples_,echo serve trouble uploads): \
    $(addprefix $(examples)/,serve echo threads redirect client_cert sni reload stream upload \
                             graceful chat deferred own_loop upgrade form api embedded \
                             dashboard webhook filedrop)

# --- more tests -----------------------------------------------------------------------

# Not optimised, with lines for reports only, and without the warnings that `make test` has made
# errors: a program then takes a third of the time to build, and that is most of it.
sanitize = -O0 -g1 -w -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
each     = @set -e; for script in $(wildcard $(1)); do echo "$$script"; $$script; done

check: | $(first)     # one after the other: each of them uses all processors
	$(MAKE) check-compile
	$(MAKE) check-static
	$(MAKE) check-asan
	$(MAKE) check-tsan
	$(MAKE) check-poll
	$(MAKE) check-kqueue
	$(MAKE) check-windows
	$(MAKE) check-fault
	$(MAKE) check-valgrind
	$(MAKE) check-fuzz
	$(MAKE) check-soak

check-compile: all
	$(call each,tests/compile/run.sh)
check-static: check-analysis check-scripts
check-analysis:     # minutes, on one processor: the scripts have the other
	tests/check/static.sh
check-scripts: | $(first)
	$(call each,$(filter-out tests/check/static.sh,$(wildcard tests/check/*.sh)))
# No block is used a second time, so that ASan sees each use of one that went back to the pool;
# but for the tests of reuse itself.
reuse = unit/memory unit/tls_memory unit/wipes live/steady
check-asan:
	$(MAKE) test OUT=build/noreuse FLAGS='$(sanitize) -DHSB__POOL_KEEP=0' \
	        WHICH='$(filter-out $(reuse),$(patsubst tests/%.c,%,$(wildcard \
	                 $(patsubst %,tests/%.c,$(WHICH)))))'
	$(MAKE) test OUT=build/asan FLAGS='$(sanitize)' WHICH='$(reuse)'
	$(MAKE) fuzz-hooks T=20 FUZZ=build/noreuse/fuzz FLAGS=-DHSB__POOL_KEEP=0
check-tsan:
	$(MAKE) test OUT=build/tsan FLAGS='-O0 -fsanitize=thread' WHICH='live/threads* live/shared* live/serve acme/pebble unit/listener'
check-poll:
	$(MAKE) test OUT=build/poll FLAGS='-O0 -DHSB_USE_POLL' WHICH='live/* unit/poller unit/listener'
check-kqueue:       # kqueue(2) over poll(2): see tests/compile/shim
	$(MAKE) test OUT=build/kqueue FLAGS='-O0 -DHSB_USE_KQUEUE -Itests/compile/shim' \
	        WHICH='unit/poller unit/listener live/responses live/blocked'
check-windows:      # under Wine: see tests/windows.sh
	@tests/windows.sh
check-fault:
	$(MAKE) test OUT=build/fault FLAGS='$(sanitize)' WHICH='fault/*'
check-valgrind: $(patsubst tests/%.c,build/tests/%,$(wildcard $(patsubst %,tests/unit/%.c, \
                    head body der pem x509 chain selfsigned hello timing vectors websocket* tls*)))
	@printf '%s\n' $^ | xargs -P "$$(nproc)" -I '{}' sh -c 'echo "valgrind {}"; \
	    valgrind --quiet --error-exitcode=9 {} >{}.memcheck 2>&1 || \
	        { cat {}.memcheck; exit 255; }'
check-fuzz:
	$(MAKE) fuzz T=20
check-portable:     # i386 and, under qemu-user, s390x: see tests/portable.sh
	tests/portable.sh i386
	tests/portable.sh s390x
check-soak: build/examples/echo
	T=15 tests/bench/soak.sh

# --- fuzzing, speed, endurance, coverage ----------------------------------------------

fuzz: $(patsubst tests/fuzz/%.c,fuzz-%,$(wildcard tests/fuzz/*.c))

# What it finds on the way goes to $(FUZZ)/corpus; tests/fuzz/corpus is only read.
fuzz-%: $(FUZZ)/%
	@mkdir -p $(FUZZ)/corpus/$*
	$< -max_total_time=$(T) -timeout=10 -verbosity=0 -print_final_stats=1 \
	    $(addprefix -dict=,$(wildcard tests/fuzz/$*.dict)) -artifact_prefix=$(FUZZ)/$*- \
	    $(FUZZ)/corpus/$* $(wildcard tests/fuzz/corpus/$*)

$(FUZZ)/%: tests/fuzz/%.c httpsbind.h $(wildcard tests/*.h tests/*/*.h) | $(first)
	@mkdir -p $(@D)
	clang -fsanitize=fuzzer $(sanitize) $(test_flags) -o $@ $< $(link_tls) -lssl -lcrypto -lpthread

bench:          # > table.md: progress goes to standard error
	@tests/bench/run.py
soak: all
	$(call each,tests/bench/soak.sh)
coverage:
	$(MAKE) test OUT=build/coverage FLAGS='--coverage -O0' WHICH='$(WHICH) fault/*'
	@tests/coverage.sh build/coverage
mutate:         # SEED=1 N=250 JOBS=1, and SECTIONS='text head' for some of them
	@tests/mutate.py $(SECTIONS)

# --- the rest -------------------------------------------------------------------------

VERSION = $(shell sed -n 's/^.define HSB_VERSION  *"\(.*\)"/\1/p' httpsbind.h)

install:
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 httpsbind.h $(DESTDIR)$(PREFIX)/include
	printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' '' 'Name: httpsbind' \
	    'Description: HTTPS server in one header, on BearSSL' 'Version: $(VERSION)' \
	    'Cflags: -I$${includedir}' 'Libs: -lbearssl -pthread' \
	    >$(DESTDIR)$(PREFIX)/lib/pkgconfig/httpsbind.pc
	tests/man.sh httpsbind.h $(DESTDIR)$(PREFIX)/share/man

clean:
	rm -rf build

help:
	@sed -n 's/^#   //p' Makefile

# As many jobs as there are processors.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --no-print-directory -j$(shell nproc 2>/dev/null || echo 1)
endif

.PHONY: all deps deps-check run test check check-compile check-static check-analysis \
        check-scripts check-asan check-tsan check-poll check-kqueue check-windows check-fault \
        check-valgrind check-fuzz check-soak check-portable fuzz bench soak coverage mutate install clean help
.SECONDARY:
