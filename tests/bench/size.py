#!/usr/bin/env python3
"""How large `hello` is, how long it takes to compile, and which section of the header costs what.

    size.py                     a table in markdown
    size.py --at-most BYTES     only the size; fails if it is more
    size.py --largest           the largest functions and tables in hello

hello is compiled with -Os -ffunction-sections -fdata-sections, linked with BearSSL inside and
-Wl,--gc-sections, and stripped.  CC and BEARSSL as in the Makefile; files are below build/bench.
"""
import os
import re
import resource
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from servers import BEARSSL, CC, OUT  # noqa: E402

SOURCE, HEADER = 'examples/hello.c', 'httpsbind.h'
BANNER = re.compile(r'/\* =* >>([a-z0-9-]+) =*$')


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compile_object(path, *flags):
    """Returns the seconds of CPU that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*CC, *flags, '-I.', *([f'-I{BEARSSL}/inc'] if BEARSSL else []), '-c', '-o', path, SOURCE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def hello_size():
    """Bytes of the program as it is installed; OUT/hello is the same with its symbols."""
    os.makedirs(OUT, exist_ok=True)
    compile_object(f'{OUT}/hello.o', '-Os', '-g', '-ffunction-sections', '-fdata-sections')
    library = f'{BEARSSL}/build/libbearssl.a' if BEARSSL else '-l:libbearssl.a'
    run(*CC, '-o', f'{OUT}/hello', f'{OUT}/hello.o', library, '-lpthread', '-Wl,--gc-sections')
    run('strip', '-o', f'{OUT}/hello.stripped', f'{OUT}/hello')
    return os.path.getsize(f'{OUT}/hello.stripped')


def compile_seconds(rounds=3):
    return min(compile_object(f'{OUT}/hello-O0.o', '-O0') for _ in range(rounds))


def section_of_line():
    """For each line of the header, the section that it is in."""
    sections, now = [''], ''
    with open(HEADER, encoding='utf-8') as file:
        for line in file:
            banner = BANNER.match(line)
            now = banner[1] if banner else now
            sections.append(now)
    return sections


def symbols(path, *flags):
    """Name, bytes and place of each function and object."""
    for line in run('nm', '-S', '--defined-only', *flags, path).splitlines():
        found = re.match(r'\S+ (\S+) [a-zA-Z] (\S+)(?:\t(.*))?', line)
        if found:
            yield found[2], int(found[1], 16), found[3] or ''


def by_section():
    """{section: (bytes in the whole object, bytes of these in hello)}, in the header's order."""
    sections, home, result = section_of_line(), {}, {}
    result.update((name, [0, 0]) for name in sections if name)
    for name, size, place in symbols(f'{OUT}/hello.o', '-l'):
        path, _, line = place.rpartition(':')
        if path.endswith(HEADER):
            home[name] = sections[int(line)]
            result[home[name]][0] += size
    for name, size, _ in symbols(f'{OUT}/hello'):
        if name in home:
            result[home[name]][1] += size
    return {name: sizes for name, sizes in result.items() if sizes[0]}


def largest(count=60):
    """What takes most in hello: (bytes, section or "-" for what is not the header's, name)."""
    sections, home = section_of_line(), {}
    for name, _, place in symbols(f'{OUT}/hello.o', '-l'):
        path, _, line = place.rpartition(':')
        home[name] = sections[int(line)] if path.endswith(HEADER) else '-'
    found = [(size, home.get(name, '-'), name) for name, size, _ in symbols(f'{OUT}/hello')]
    return sorted(found, reverse=True)[:count]


def texts():
    """Bytes of string literals in the object, which belong to no symbol."""
    return sum(int(line.split()[1]) for line in run('size', '-A', f'{OUT}/hello.o').splitlines()
               if re.search(r'\.str\d', line))


def table():
    sizes = by_section()
    lines = ['| section | all of it, KB | in `hello`, KB |', '|---|---:|---:|']
    lines += [f'| {name} | {whole / 1000:.1f} | {used / 1000:.1f} |' for name, (whole, used) in sizes.items()]
    whole, used = (sum(pair[i] for pair in sizes.values()) for i in (0, 1))
    size = os.path.getsize(f'{OUT}/hello.stripped')
    lines += [f'| together | {whole / 1000:.1f} | {used / 1000:.1f} |',
              f'| texts of all sections | {texts() / 1000:.1f} | |',
              f'| BearSSL, texts, tables of the linker | | {(size - used) / 1000:.1f} |',
              f'| `hello`, stripped | | {size / 1000:.1f} |']
    return lines


def main(arguments):
    size = hello_size()
    if arguments[:1] == ['--at-most']:
        print(f'hello, stripped: {size} bytes')
        if size > int(arguments[1]):
            print(f'FAILED: more than {arguments[1]}')
            return 1
        return 0
    if arguments[:1] == ['--largest']:
        for line in largest():
            print('%7d  %-12s %s' % line)
        return 0
    print(f'`hello`: {size} bytes; to compile it with -O0: {compile_seconds():.2f} s\n')
    print('\n'.join(table()))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
