#!/usr/bin/env python3
"""What a request, a gigabyte, a handshake and an idle connection cost the server: `echo`, side by
side with nginx and other servers where they are installed, in TLS 1.2 and 1.3, one thread each,
over loopback.

    run.py              everything; the tables, in markdown, on standard output
    run.py WHAT...      only that: rounds crowd members threads forms instructions size others

Environment:
    ROUNDS              the servers take turns in so many rounds (3); printed are medians, and
                        the medians of the rounds' ratios, which suffer less from a busy machine
    PEER_ROUNDS         in how many of them the servers other than nginx take part (1)
    CROWD               how many idle connections the largest crowd has (100000); fewer, where
                        a process may not have so many descriptors
    BEARSSL_NEW         the folder of a newer BearSSL, built, to be measured beside; ../BearSSL
                        if that is one
    QUICK               if it is set, everything is ten times smaller: to see whether it works
    CC, BEARSSL         as in the Makefile

Needs wrk, curl and OpenSSL's library; valgrind for instructions.  All files are below build/bench.
"""
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import instructions  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import size  # noqa: E402
from report import THREADS, VERSIONS, add  # noqa: E402
from servers import (BEARSSL, CANNOT, OUT, PEERS, RARE, Failed, Server, allow_descriptors,  # noqa: E402
                     compile_program, installed_peers, stop_all)

ROUNDS = int(os.environ.get('ROUNDS', 3))
PEER_ROUNDS = int(os.environ.get('PEER_ROUNDS', 1))
CROWD = int(os.environ.get('CROWD', 100000))
NEWER = os.environ.get('BEARSSL_NEW', '../BearSSL')
FEW = 10000 // measure.QUICK            # idle connections of the smaller crowd, and members
UPLOAD = 1024 // measure.QUICK          # MB
BYTES_EACH = 40000                      # of memory that an idle connection may take, all in all
PLACES = ('plain', 'mean', 'last')      # of a route: see routes.c

begin = time.monotonic()


def say(text):
    print(text, end='', file=sys.stderr, flush=True)


def stage(text):
    say(f'\n{time.monotonic() - begin:4.0f} s  {text}:')


# --- taking samples -------------------------------------------------------------------------

def sample_server(server, quick):
    """All that is measured of one server in a round; quick leaves out what takes longest."""
    kind, version, cannot = server.kind, server.version, CANNOT.get(server.kind, ())
    handshake = measure.full(server)
    add('full', version, kind, handshake)
    if 'resumed' not in cannot:
        add('resumed', version, kind, measure.resumed(server))
        add('mix', version, kind, measure.mix(server))
    request, user, rate = measure.keep_alive(server, handshake)
    add('keep', version, kind, request)
    add('user', version, kind, user)
    add('rate-64', version, kind, rate)
    if 'bulk' not in cannot:
        add('bulk', version, kind, measure.bulk(server))
    add('idle', version, kind, measure.idle(kind, version))
    add('rate-1', version, kind, measure.one_connection(server))
    if not quick:
        add('rate-1000', version, kind, measure.thousand_connections(server))


def sample_primitives():
    """With as much company as a server has while its client computes: where two processors are
    one core, or share its power, each is slower while the other works."""
    company = subprocess.Popen([f'{OUT}/primitives'], stdout=subprocess.DEVNULL)
    text = subprocess.run([f'{OUT}/primitives'], check=True, capture_output=True, text=True).stdout
    company.wait()
    add('primitives', '', 'echo', float(re.search(r'([\d.]+) sum', text)[1]))
    return text


def has_newer():
    return os.path.exists(f'{NEWER}/build/libbearssl.a')


def take_turn(server, number):
    """False: it failed.  Only a peer may."""
    since = time.monotonic()
    try:
        say(f' {server.kind} {server.version}')
        sample_server(server, quick=number % 2 == 1 or server.kind not in ('echo', 'nginx'))
        say(f' ({time.monotonic() - since:.0f} s)')
        return True
    except (Failed, subprocess.CalledProcessError) as failed:
        if server.kind not in PEERS:
            raise
        say(f'\n{failed}\n')
        return False


def rounds(peers):
    """Everybody takes turns.  Returns the table of BearSSL's primitives."""
    text = ''
    kinds = ['echo', *(['echo-new'] if has_newer() else []), *peers]
    everybody = [Server(kind, version) for version in VERSIONS for kind in kinds]
    for number in range(ROUNDS):
        stage(f'round {number + 1} of {ROUNDS}')
        for server in list(everybody):
            if (server.kind not in RARE or number < PEER_ROUNDS) and not take_turn(server, number):
                everybody.remove(server)
        text = sample_primitives()
    stop_all()
    return text


def routes():
    stage('a table of routes')
    servers = [Server(f'routes {place}', '1.3') for place in PLACES]
    for _ in range(ROUNDS):
        for place, server in zip(PLACES, servers):
            add('route', '1.3', place, measure.keep_alive(server, measure.full(server))[0])
        say(' .')
    for server in servers:
        server.stop()


def threads():
    stage('threads')
    servers = {count: Server('echo', '1.3', threads=count) for count in THREADS}
    pair = [servers[1], Server('echo', '1.3')]
    for _ in range(ROUNDS):
        for count, server in servers.items():
            request, _, rate = measure.keep_alive(server, measure.full(server))
            add('thread request', '1.3', count, request)
            add('thread rate', '1.3', count, rate)
            if count <= 2:
                rate, handshake = measure.two_clients(server)
                add('thread handshakes', '1.3', count, rate)
                add('thread handshake', '1.3', count, handshake)
        add('pair request', '1.3', 2, measure.side_by_side(pair, measure.full(servers[1])))
        say(' .')
    for server in {*servers.values(), *pair}:
        server.stop()


def crowd(peers, limit):
    """With full handshakes, and the largest crowd with resumed ones, or it would take minutes."""
    largest = max(100, min(CROWD, limit - 3000, measure.available_bytes() // BYTES_EACH))
    for mode, count, versions in (('many', min(FEW, largest), VERSIONS), ('crowd', largest, ('1.3',))):
        if mode == 'crowd' and count <= FEW:
            break
        stage(f'{count} idle connections')
        for version in versions:
            for kind in ('echo', *(kind for kind in peers if kind == 'nginx')):
                say(f' {kind} {version}')
                for what, values in measure.crowd(kind, version, mode, count, min(ROUNDS, 3)).items():
                    add(f'{mode} {what}', version, kind, *(values if isinstance(values, list) else [values]))
        add(f'{mode} count', '', 'echo', count)


def members(limit):
    count = max(100, min(FEW, limit - 3000))
    stage(f'{count} members of a WebSocket')
    for version in VERSIONS:
        costs, resident = measure.members(version, count, ROUNDS)
        add('message', version, 'echo', *costs)
        add('member', version, 'echo', resident)
    add('members', '', 'echo', count)


def forms():
    for scheme in ('https', 'http'):
        for kind in ('random', 'text'):
            stage(f'{UPLOAD} MB of {kind} bytes, {scheme}')
            plain, form = measure.forms(kind, scheme, UPLOAD, min(ROUNDS, 3))
            add('put', scheme, kind, *plain)
            add('form', scheme, kind, *form)


def count_instructions():
    for mode in instructions.RUNS:
        for version in VERSIONS:
            stage(f'instructions, {mode}, TLS {version}')
            total = instructions.sums(instructions.count(mode, version))
            add(f'instructions {mode}', version, 'ours and libc', total['ours'] + total['libc'])
            add(f'instructions {mode}', version, 'BearSSL', total['BearSSL'])
    stage('instructions of routes')
    for place in PLACES:
        total = instructions.sums(instructions.count('requests', '1.3', f'routes {place}'))
        add('instructions', '1.3', place, total['ours'] + total['libc'])


def sizes():
    stage('size and compile time')
    add('size', '', 'echo', size.hello_size())
    add('compile', '', 'echo', size.compile_seconds())
    return size.table()


def others():
    """The small programs that print tables of their own."""
    texts = []
    for name in ('chain', 'head', 'growth'):
        stage(name)
        texts.append(subprocess.run([f'{OUT}/{name}'], check=True, capture_output=True, text=True).stdout)
    return texts


# --- everything ------------------------------------------------------------------------------

def build():
    programs = [(name, f'tests/bench/{name}.c', BEARSSL)
                for name in ('client', 'primitives', 'routes', 'members', 'forms', 'chain', 'head', 'growth')]
    programs.append(('echo', 'examples/echo.c', BEARSSL))
    if has_newer():
        programs.append(('echo-new', 'examples/echo.c', NEWER))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda program: compile_program(*program), programs))
    measure.prepare()


def run(wanted):
    """Returns whether all of it could be measured.  What fails is left out of the tables."""
    notes, good = [], True

    def attempt(what, function, *arguments):
        nonlocal good
        if wanted and what not in wanted:
            return None
        try:
            return function(*arguments)
        except (Failed, OSError, subprocess.CalledProcessError) as failed:
            say(f'\n{failed}\n')
            notes.append(f'Failed: {what}.')
            good = False
            stop_all()
            return None

    stage('building')
    build()
    limit = allow_descriptors(CROWD + 3000)
    peers, missing = installed_peers()
    missing += [tool for tool in ('wrk', 'curl', 'valgrind') if not shutil.which(tool)]
    missing += [] if has_newer() else ['a newer BearSSL']
    primitives = attempt('rounds', rounds, peers)
    attempt('rounds', routes)
    attempt('threads', threads)
    attempt('crowd', crowd, peers, limit)
    attempt('members', members, limit)
    attempt('forms', forms)
    attempt('instructions', count_instructions)
    section_table = attempt('size', sizes)
    tables = attempt('others', others)
    stage('done')
    say('\n')

    if missing:
        notes.append(f'Not installed: {", ".join(missing)}.')
    report.print_all(peers, notes, ROUNDS, has_newer())
    if section_table:
        report.print_table(*section_table)
    for text in (primitives, *(tables or ())):
        if text:
            print(f'```\n{text}```\n')
    return good


def main(arguments):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return 0 if run(arguments) else 1
    finally:
        stop_all()


if __name__ == '__main__':
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..'))
    sys.exit(main(sys.argv[1:]))
