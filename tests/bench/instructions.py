#!/usr/bin/env python3
"""How many instructions `echo` runs for a request on a connection that is kept alive, and for a
resumed handshake, outside the kernel: counted by callgrind, so a busy machine does not matter.

    instructions.py                     for each TLS version the sums, and what each function of
                                        the header, the example and the C library takes of them
    instructions.py --at-most 1.2=N...  only the sums of a request; fails if it takes more than N
                                        instructions of these functions together

What is the same for few and for many exchanges, as the start of the program, falls out: each
figure is the difference of two runs.  Inlined functions count with those that they went into.
A function of the C library counts as the library's, whoever calls it.
CC and BEARSSL as in the Makefile; files are below build/bench.
"""
import concurrent.futures
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from servers import BEARSSL, OUT, Server, compile_program  # noqa: E402

RUNS = {'requests': (100, 1100), 'resumed': (10, 110)}          # few, many
NAMES = {'requests': 'keep-alive request', 'resumed': 'resumed handshake'}
OWNERS = ('ours', 'libc', 'BearSSL')
LINES = 50                                                      # of the table by function


def bearssl_names():
    """The functions of a BearSSL that is linked statically, which no object's name tells."""
    if not BEARSSL:
        return set()
    listed = subprocess.run(['nm', '--defined-only', f'{BEARSSL}/build/libbearssl.a'], check=True,
                            capture_output=True, text=True).stdout
    return set(re.findall(r'^\S+ [tT] (\S+)$', listed, re.M))


def owner(path, name, program, static):
    if 'bearssl' in path or name in static:
        return 'BearSSL'
    return 'ours' if path.endswith('/' + program) else 'libc'


def read_profile(path):
    """Self cost by (object, function)."""
    costs, names = {}, {}
    program = function = ''
    inclusive = False                   # the line after calls= is the cost of what was called

    def full(text):                     # "(3) name" the first time, "(3)" from then on
        number, _, name = text.partition(' ')
        if name:
            names[number] = name
        return names[number]

    with open(path, encoding='utf-8', errors='replace') as profile:
        for line in profile:
            key, mark, value = line.rstrip('\n').partition('=')
            if not mark:
                parts = line.split()
                if parts and parts[0][0] in '+-*0123456789':
                    if not inclusive:
                        at = program, function
                        costs[at] = costs.get(at, 0) + int(parts[1])
                    inclusive = False
            elif key == 'calls':
                inclusive = True
            elif key in ('ob', 'cob'):          # one numbering of names for each kind
                name = full('ob' + value)
                program = name if key == 'ob' else program
            elif key in ('fn', 'cfn'):
                name = full('fn' + value)
                function = re.sub(r"'\d+$", '', name) if key == 'fn' else function
    return costs


def run_once(program, mode, version, number):
    profile = f'{OUT}/callgrind.{program.replace(" ", "-")}.{mode}.{version}.{number}'
    with Server(program, version, before=('valgrind', '--quiet', '--tool=callgrind',
                                          f'--callgrind-out-file={profile}')) as server:
        server.client(mode, number)
    return read_profile(profile)


def count(mode, version, program='echo'):
    """Instructions of one exchange: {(owner, function): number}."""
    few, many = RUNS[mode]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        before, after = pool.map(lambda number: run_once(program, mode, version, number), (few, many))
    static = bearssl_names()
    result = {}
    for at in before.keys() | after.keys():
        who = owner(*at, program.split()[0], static), at[1]
        more = (after.get(at, 0) - before.get(at, 0)) / (many - few)
        result[who] = result.get(who, 0) + more
    return result


def sums(counted):
    return {who: sum(n for (owned, _), n in counted.items() if owned == who) for who in OWNERS}


def show(mode, version, counted):
    total = sums(counted)
    print(f'TLS {version}, {NAMES[mode]}: {total["ours"] + total["libc"]:.0f} ours and libc '
          f'({total["ours"]:.0f} + {total["libc"]:.0f}), {total["BearSSL"]:.0f} BearSSL', flush=True)


def show_functions(counted):
    known = [(n, who, name) for (who, name), n in counted.items() if who != 'BearSSL' and n >= 0.5]
    for n, who, name in sorted(known, reverse=True)[:LINES]:
        print(f'{n:9.0f}  {who:8}{name}')
    print()


def build():
    compile_program('echo', 'examples/echo.c')
    compile_program('client', 'tests/bench/client.c')


def check(bounds):
    good = True
    for version, bound in bounds.items():
        counted = count('requests', version)
        show('requests', version, counted)
        total = sums(counted)
        if total['ours'] + total['libc'] > bound:
            print(f'FAILED: more than {bound}')
            good = False
    return good


def main(arguments):
    build()
    if arguments[:1] == ['--at-most']:
        bounds = (argument.split('=') for argument in arguments[1:])
        return 0 if check({version: int(bound) for version, bound in bounds}) else 1
    for version in ('1.2', '1.3'):
        for mode in RUNS:
            counted = count(mode, version)
            show(mode, version, counted)
            show_functions(counted)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
