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
from report import print_table  # noqa: E402
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


def homes():
    """The section of each function and object of the header in hello.o."""
    sections = section_of_line()
    for name, size, place in symbols(f'{OUT}/hello.o', '-l'):
        path, _, line = place.rpartition(':')
        if path.endswith(HEADER):
            yield name, size, sections[int(line)]


def by_section():
    """{section: [bytes in the whole object, bytes of these in hello]}, in the header's order, and
    the bytes in hello of what is not the header's."""
    home, result, others = {}, {}, 0
    result.update((name, [0, 0]) for name in section_of_line() if name)
    for name, size, section in homes():
        home[name] = section
        result[section][0] += size
    for name, size, _ in symbols(f'{OUT}/hello'):
        if name in home:
            result[home[name]][1] += size
        else:
            others += size
    return {name: sizes for name, sizes in result.items() if sizes[0]}, others


def largest(count=60):
    """What takes most in hello: (bytes, section or "-" for what is not the header's, name)."""
    home = {name: section for name, _, section in homes()}
    found = [(size, home.get(name, '-'), name) for name, size, _ in symbols(f'{OUT}/hello')]
    return sorted(found, reverse=True)[:count]


def parts(path, pattern):
    """Bytes of those parts of an object or a program whose names match."""
    return sum(int(line.split()[1]) for line in run('size', '-A', path).splitlines()
               if re.match(pattern, line))


def table():
    """Head and lines of a table."""
    def line(name, whole, used):
        return [name, *('' if value is None else f'{value / 1000:.1f}' for value in (whole, used))]

    sections, others = by_section()
    whole, used = (sum(pair[i] for pair in sections.values()) for i in (0, 1))
    texts = parts(f'{OUT}/hello.o', r'\.rodata\..*str\d')
    size = os.path.getsize(f'{OUT}/hello.stripped')
    unwinding = parts(f'{OUT}/hello.stripped', r'\.eh_frame')
    return ['section of the header', 'all of it, KB', 'in `hello`, KB'], [
        *(line(name, *pair) for name, pair in sections.items() if pair[0] >= 50),
        line('all sections', whole, used), line('their texts', texts, None),
        line('BearSSL', None, others), line('unwind tables of both', None, unwinding),
        line('texts, and what the linker adds', None, size - used - others - unwinding),
        line('`hello`, stripped', None, size)]


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
    print_table(*table())
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
