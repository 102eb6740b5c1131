"""The samples that are taken, and the tables that are made of them, in markdown."""
import collections
import datetime
import os
import platform
import re
import statistics
import subprocess

import instructions

VERSIONS = ('1.2', '1.3')
THREADS = (1, 2, 4, 8)                      # of which the second column of each row has the first

samples = collections.defaultdict(list)     # (what, TLS version, server or kind): one a round


def add(what, version, who, *values):
    samples[what, version, who].extend(values)


def middle(what, version, who):
    values = samples.get((what, version, who))
    return statistics.median(values) if values else None


def ratio(one, other):
    """Of two keys of samples, the median of the rounds' ratios."""
    ratios = [a / b for a, b in zip(samples.get(one, ()), samples.get(other, ())) if b]
    return statistics.median(ratios) if ratios else None


# --- cells ----------------------------------------------------------------------------------

def number(value, digits):
    if value is None:
        return ''
    return f'{value:,.{digits}f}'.replace(',', ' ')


def goal(value, text):
    """"<= 0.74" as it is printed, with a word if it is not reached."""
    if not text:
        return ''
    bound = float(text.split()[1].replace(',', ''))
    reached = value is None or (value <= bound if text.startswith('<=') else value >= bound)
    text = text.replace('<=', '≤').replace('>=', '≥')
    return text if reached else f'{text}: missed'


def print_table(head, lines):
    """In markdown, with columns that stand below each other; nothing without lines."""
    if not lines:
        return
    cells = [head, *lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for at, line in enumerate(cells):
        print('| ' + ' | '.join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                for i, (cell, width) in enumerate(zip(line, widths))) + ' |')
        if at == 0:
            print('|' + '|'.join(('-' * (width + 1) + ':') if i else '-' * (width + 2)
                                 for i, width in enumerate(widths)) + '|')
    print()


# text, what, digits, and by TLS version: the goal of the ratio, of the ratio with a newer BearSSL,
# and of the figure itself
ROWS = (
    ('keep-alive request, µs', 'keep', 2, {'1.2': ('<= 0.74', '', ''), '1.3': ('<= 0.74', '', '')}),
    ('the same outside the kernel, µs', 'user', 2, {}),
    ('download, ms per GB', 'bulk', 0, {'1.2': ('<= 0.80', '', ''), '1.3': ('<= 0.70', '', '')}),
    ('resumed handshake, µs', 'resumed', 0, {'1.2': ('<= 1.00', '', ''),
                                             '1.3': ('<= 1.20', '<= 0.75', '')}),
    ('full handshake, µs', 'full', 0, {'1.3': ('<= 1.85', '<= 1.10', '')}),
    ('connections with a request, 80 % resumed, µs', 'mix', 0, {}),
    ('idle connection, bytes resident', 'idle', 0, {'1.2': ('', '', '<= 3300'),
                                                    '1.3': ('', '', '<= 2700')}),
    ('requests/s, 1 connection', 'rate-1', 0, {}),
    ('requests/s, 64 connections', 'rate-64', 0, {}),
    ('requests/s, 1 000 connections', 'rate-1000', 0, {}),
)


def print_main(newer):
    """`echo` beside nginx, and with a newer BearSSL."""
    lines = []
    for text, what, digits, goals in ROWS:
        for version in VERSIONS:
            ours, theirs, new = ((what, version, who) for who in ('echo', 'nginx', 'echo-new'))
            of_ratio, of_newer, of_figure = goals.get(version, ('', '', ''))
            aim = goal(middle(*ours), of_figure) if of_figure else goal(ratio(ours, theirs), of_ratio)
            lines.append([text, version, number(middle(*ours), digits), number(middle(*theirs), digits),
                          number(ratio(ours, theirs), 2), aim])
            if newer:
                lines[-1] += [number(middle(*new), digits), number(ratio(new, theirs), 2),
                              goal(ratio(new, theirs), of_newer)]
    head = ['CPU time, or what is said', 'TLS', '`echo`', 'nginx', 'ratio', 'goal']
    print_table(head + (['newer BearSSL', 'ratio', 'goal'] if newer else []), lines)


def print_peers(peers):
    """What each server takes, and in brackets what `echo` takes, of that."""
    lines = []
    for text, what, digits, _ in ROWS:
        for version in VERSIONS:
            ours = what, version, 'echo'
            line = [text, version, number(middle(*ours), digits)]
            for kind in peers:
                share = ratio(ours, (what, version, kind))
                line.append(f'{number(middle(what, version, kind), digits)} ({number(share, 2)})'
                            if share else '')
            if any(line[3:]):
                lines.append(line)
    print_table(['CPU time, or what is said; (`echo` / it)', 'TLS', '`echo`', *peers], lines)


CROWD_ROWS = (('bytes resident each', 'resident'), ('bytes of the kernel each, both ends', 'kernel'),
              ('accepted in a second', 'accepts'), ('requests/s of 64 others', 'beside'))


def print_crowd():
    lines = []
    for mode in ('many', 'crowd'):
        count = number(middle(f'{mode} count', '', 'echo'), 0)
        for version in (v for v in VERSIONS if (f'{mode} accepts', v, 'echo') in samples):
            for text, what in CROWD_ROWS:
                ours, theirs = ((f'{mode} {what}', version, who) for who in ('echo', 'nginx'))
                lines.append([f'{count} idle: {text}', version, number(middle(*ours), 0),
                              number(middle(*theirs), 0), number(ratio(ours, theirs), 2), ''])
            ours, theirs = (ratio((f'{mode} beside', version, who), (f'{mode} alone', version, who))
                            for who in ('echo', 'nginx'))
            lines.append([f'{count} idle: that rate, of that without', version, number(ours, 2),
                          number(theirs, 2), '', goal(ours, '>= 0.90')])
    print_table(['many connections', 'TLS', '`echo`', 'nginx', 'ratio', 'goal'], lines)


def own_rows():
    """Text, keys of two samples of ours, digits, and the goal of their ratio."""
    for version in VERSIONS:
        full, keep = ('full', version, 'echo'), ('keep', version, 'echo')
        yield "full handshake, µs, of BearSSL's primitives", full, ('primitives', '', 'echo'), 0, '<= 1.15'
        yield 'keep-alive request, µs outside the kernel, of all', ('user', version, 'echo'), keep, 2, ''
    for count in THREADS[1:]:
        aim = '<= 1.05' if count == 2 else ''
        for text, what, digits, aim in (('keep-alive request, µs', 'thread request', 2, aim),
                                        ('requests/s', 'thread rate', 0, ''),
                                        ('full handshake, µs', 'thread handshake', 0, ''),
                                        ('full handshakes/s', 'thread handshakes', 0, '')):
            yield (f'{count} threads: {text}, of that with one', (what, '1.3', count), (what, '1.3', 1),
                   digits, aim)
    yield ('2 processes that share nothing: the same, of that of one', ('pair request', '1.3', 2),
           ('thread request', '1.3', 1), 2, '')
    for place, text in (('mean', 'the tenth'), ('last', 'the last')):
        yield (f'keep-alive request, µs, {text} of 20 routes, of that without', ('route', '1.3', place),
               ('route', '1.3', 'plain'), 2, '<= 1.01')
        yield (f'its instructions, {text} of 20 routes, of those without', ('instructions', '1.3', place),
               ('instructions', '1.3', 'plain'), 0, '')
    for scheme in ('https', 'http'):
        for kind in ('random', 'text'):
            yield (f'upload in a form, MB/s, of that by PUT: {kind} bytes, {scheme}', ('form', scheme, kind),
                   ('put', scheme, kind), 0, '>= 0.80')


def print_ours():
    """What has no counterpart elsewhere."""
    lines = [[text, one[1] if one[1] in VERSIONS else '', number(middle(*one), digits),
              number(middle(*other), digits), number(ratio(one, other), 3 if digits == 2 else 2),
              goal(ratio(one, other), aim)]
             for text, one, other, digits, aim in own_rows() if one in samples]
    print_table(['this, of that', 'TLS', 'this', 'that', 'ratio', 'goal'], lines)


def figure_rows():
    """Text, key of a sample, digits, and its goal."""
    for mode, aim in (('requests', '<= 3000'), ('resumed', '')):
        for version in VERSIONS:
            name, what = instructions.NAMES[mode], f'instructions {mode}'
            yield f'instructions, {name}: ours and libc', (what, version, 'ours and libc'), 0, aim
            yield f'instructions, {name}: BearSSL', (what, version, 'BearSSL'), 0, ''
    count = number(middle('members', '', 'echo'), 0)
    for version in VERSIONS:
        yield f'a message to {count} WebSockets, µs each', ('message', version, 'echo'), 2, ''
        yield 'a WebSocket, bytes resident', ('member', version, 'echo'), 0, ''
    yield '`hello`, stripped, BearSSL in it, bytes', ('size', '', 'echo'), 0, '<= 210000'
    yield 'to compile it with -O0, s', ('compile', '', 'echo'), 2, '<= 0.80'


def print_figures():
    lines = [[text, key[1], number(middle(*key), digits), goal(middle(*key), aim)]
             for text, key, digits, aim in figure_rows() if key in samples]
    print_table(['figure', 'TLS', '', 'goal'], lines)


VERSION_OF = {'nginx': ('nginx', '-v'), 'lighttpd': ('lighttpd', '-v'), 'haproxy': ('haproxy', '-v'),
              'caddy': ('caddy', 'version')}


def with_version(kind):
    if kind not in VERSION_OF:
        return kind
    done = subprocess.run(VERSION_OF[kind], capture_output=True, text=True, check=False)
    found = re.search(r'\d+\.\d+[.\d]*', done.stdout + done.stderr)
    return f'{kind} {found[0]}' if found else kind


def print_machine(peers, notes, rounds):
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        model = re.search(r'model name\s*: (.*)', file.read())
    print(f'{datetime.date.today()}, {model[1] if model else platform.machine()}, {os.cpu_count()} '
          f'processors, {platform.system()} {platform.release()}; '
          f'{", ".join(map(with_version, peers))}; medians of {rounds} rounds.')
    for note in notes:
        print(note)
    print()


def print_all(peers, notes, rounds, newer):
    """The tables of which there are samples."""
    print_machine(peers, notes, rounds)
    if any(what == 'keep' for what, _, _ in samples):
        print_main(newer)
        print_peers([kind for kind in peers if kind != 'nginx'])
    print_crowd()
    print_ours()
    print_figures()
