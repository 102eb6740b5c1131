#!/usr/bin/env python3
"""Would the tests notice if a line of httpsbind.h were wrong?

    tests/mutate.py             N single changes (250), as SEED (1) draws them
    tests/mutate.py SECTION...  the same, but only in these sections

Each change goes into a copy of the header.  The programs that the section's Tests line names are
built with it and run, units first, until one fails, dies or hangs: then the change is noticed.
What none of them notices is tried once more under sanitizers, as `make check` would, and if the
compiler then makes the same code of it, it was no change at all.  Changes that cannot be noticed
are listed in tests/mutate.txt with the reason.  Of all others 95 % shall be noticed.

Environment: SEED, N, JOBS (1), CC.  From the repository's top folder, Linux only.  An hour or so.
"""
import concurrent.futures
import glob
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'check'))
sys.dont_write_bytecode = True
import rooms  # noqa: E402

TARGET = 95                                     # per cent
SEED, N, JOBS = (int(os.environ.get(name, default))
                 for name, default in (('SEED', 1), ('N', 250), ('JOBS', 1)))
CC = os.environ.get('CC') or shutil.which('clang') or 'cc'  # clang -O0 is the quickest
BEARSSL = os.environ.get('BEARSSL', '')
FLAGS = ['-w', '-std=c99', '-D_GNU_SOURCE', '-I.', '-Itests']
ALL = ['-DHTTPSBIND_IMPLEMENTATION', '-DHTTPSBIND_ACME']    # of the header; programs say it
LIBS = ['-lcmocka', '-lcurl', '-lssl', '-lcrypto',
        os.path.join(os.path.abspath(BEARSSL), 'build/libbearssl.a') if BEARSSL else '-lbearssl',
        '-lpthread']
if BEARSSL:
    FLAGS += ['-isystem', os.path.join(os.path.abspath(BEARSSL), 'inc')]
PLAIN = ['-O0']
SANITIZED = ['-O0', '-DHSB__POOL_KEEP=0', '-fsanitize=address,undefined',
             '-fno-sanitize-recover=all']
FOLDERS = ['unit', 'wire', 'live', 'tls', 'acme', 'fault']      # in this order
OWN_SETUP = re.compile(r'live/examples|acme/pebble')    # runs what is built or installed besides
REUSE = re.compile(r'unit/memory|unit/tls_memory|live/steady')  # tests of the pool: no POOL_KEEP=0


# --- changes --------------------------------------------------------------------------------

SWAPS = {
    'comparison': [('<=', '<'), ('>=', '>'), ('==', '!='), ('!=', '=='), ('<', '<='), ('>', '>=')],
    'logic': [('&&', '||'), ('||', '&&')],
    'arithmetic': [('+', '-'), ('-', '+'), ('*', '/'), ('+=', '-='), ('-=', '+=')],
    'bits': [('|', '&'), ('&', '|'), ('<<', '>>'), ('>>', '<<'), ('|=', '&=')],
}
OPERATOR = re.compile(r' (<=|>=|==|!=|<<|>>|&&|\|\||\+=|-=|\|=|[-+*<>|&]) ')
NUMBER = re.compile(r'(?<![\w.])(0x[0-9A-Fa-f]+|\d+)([uUlL]*)(?![\w.])')
CONDITION = re.compile(r'^(\s*(?:\} )?(?:else )?(?:if|while) \()(.*)(\)(?: \{)?)$')
CALL = re.compile(r'^\s+(?:\(void\))?[a-z_]\w*\(.*\);$')
ASSIGNMENT = re.compile(r'^\s+[\w*][\w.>\[\]+*-]* [-+|&^*/%]?(?:<<|>>)?= .*;$|'
                        r'^\s+[\w*][\w.>\[\]+*-]*(?:\+\+|--);$')
ARRAY = re.compile(r'^\s+(?:(?:static|const|unsigned|struct) )*\w+ \*?\w+\[[^\]]*\]')
ASSERTION = re.compile(r'\b(?:HSB_ASSERT|assert|hsb__misuse\w*)\(')


class Change:
    def __init__(self, section, line, kind, old, new):
        self.section, self.line, self.kind, self.old, self.new = section, line, kind, old, new
        self.verdict, self.by = '', ''

    def diff(self):
        return 'httpsbind.h:%d (%s)\n- %s\n+ %s' % (self.line, self.kind, self.old.strip(),
                                                   self.new.strip())


def changes_of_line(text, bare, whole):
    """Pairs of (kind, new line).  bare is the line without comments and strings; whole says
    that the line begins a statement."""
    code = bare.rstrip()
    if '#' in code or not code.strip() or re.match(r'\s+(case|default)\b', code):
        return
    if not ASSERTION.search(code):
        if whole and CALL.match(code):
            yield 'wipe' if '_wipe' in code else 'statement', drop(text, code)
        elif whole and ASSIGNMENT.match(code):
            yield 'statement', drop(text, code)
        found = CONDITION.match(code)
        if found and balanced(found.group(2)):
            begin, end = found.span(2)
            yield 'negation', text[:begin] + '!(' + text[begin:end] + ')' + text[end:]
            if 'while' not in found.group(1):
                yield 'check', text[:begin] + '0 && (' + text[begin:end] + ')' + text[end:]
    for found in OPERATOR.finditer(code):
        for kind, swaps in SWAPS.items():
            for old, new in swaps:
                if found.group(1) == old:
                    yield kind, text[:found.start(1)] + new + text[found.end(1):]
    for found in re.finditer(r'\b(true|false)\b', code):
        other = 'false' if found.group(1) == 'true' else 'true'
        yield 'constant', text[:found.start()] + other + text[found.end():]
    for found in NUMBER.finditer(code):
        octal = re.match('0\\d', found.group(1))
        value, array = int(found.group(1), 8 if octal else 0), ARRAY.match(code)
        for step in (1, -1):
            if value + step < 0 or (array and step > 0):
                continue                        # more room than is needed changes nothing
            new = ('0x%X' if found.group(1).startswith('0x') else '0%o' if octal else '%d') % (
                value + step)
            yield 'constant', (text[:found.start()] + new + found.group(2) + text[found.end():])


def drop(text, code):
    indent = len(code) - len(code.lstrip())
    return text[:indent] + ';' + text[len(code):]


def balanced(code):
    depth = 0
    for c in code:
        depth += (c == '(') - (c == ')')
        if depth < 0:
            return False
    return depth == 0


def compiled_lines(path):
    """The lines of the header that this system's compiler gets to see."""
    out = subprocess.run([CC, '-E', '-x', 'c', *ALL, *FLAGS, path], check=True,
                         capture_output=True, text=True).stdout
    seen, line, here = set(), 0, False
    for text in out.split('\n'):
        found = re.match(r'# (\d+) "(.*?)"', text)
        if found:
            line, here = int(found.group(1)) - 1, found.group(2).endswith('httpsbind.h')
            continue
        line += 1
        if here and text.strip():
            seen.add(line)
    return seen


def changes_of(header, section, seen):
    """Of each kind a list, in the order of the lines."""
    kinds = {}
    lines, bare = header.text.split('\n'), header.bare.split('\n')
    for item in section.items:
        if item.kind != 'function':
            continue
        begins = False
        for n in range(item.first, item.last + 1):
            code = bare[n - 1].rstrip()
            if n in seen and n > item.first:
                for kind, new in changes_of_line(lines[n - 1], code, begins):
                    kinds.setdefault(kind, []).append(
                        Change(section.tag, n, kind, lines[n - 1], new))
            if code.strip():
                begins = bool(re.search(r'[;{}:]$|\belse$|^\s*(?:\} )?(?:else )?(?:if|for|while) \(.*\)$',
                                        code))
    return kinds


def draw(kinds, rng):
    """All changes of a section: kinds take turns, and of each kind chance decides."""
    piles = [list(kinds[k]) for k in sorted(kinds)]
    for pile in piles:
        rng.shuffle(pile)
    rng.shuffle(piles)
    lines = set()
    while any(piles):
        for pile in piles:
            while pile:
                change = pile.pop()
                if change.line not in lines:    # one for each line
                    lines.add(change.line)
                    yield change
                    break


def quotas(counts):
    """The same for each section; what a short one has not, the others get."""
    left, quota = N, {tag: 0 for tag in counts}
    while left:
        open_ones = [t for t in counts if quota[t] < counts[t]]
        if not open_ones:
            break
        share = max(1, left // len(open_ones))
        for tag in sorted(open_ones, key=lambda t: (quota[t], -counts[t])):
            n = min(share, counts[tag] - quota[tag], left)
            quota[tag] += n
            left -= n
    return quota


# --- programs -------------------------------------------------------------------------------

def programs_of(section):
    """What the Tests line names, without what has to be installed or built besides."""
    found = []
    for name in re.findall(r'tests/[\w./*-]*\w\*?', section.field('Tests') or ''):
        if name.endswith('.h') or name.startswith('tests/wire'):
            found += ['tests/wire/player.c'] if name.startswith('tests/wire') else []
            continue
        for path in sorted(glob.glob(name) or glob.glob(name + '/*.c')):
            found += glob.glob(path + '/*.c') if os.path.isdir(path) else [path]
    found = [p for p in dict.fromkeys(found)
             if p.endswith('.c') and p.split('/')[1] in FOLDERS and not OWN_SETUP.search(p)]
    return found


class Workshop:
    """A copy of the tree for each thread."""

    def __init__(self, top):
        self.top, self.local, self.lock = top, threading.local(), threading.Lock()
        self.seconds = {}                       # of a program as it should be, by (path, flags)
        self.gate = {}
        self.object = None

    def folder(self):
        if not hasattr(self.local, 'path'):
            self.local.path = tempfile.mkdtemp(dir=self.top)
            for name in ('tests', 'examples'):
                shutil.copytree(name, os.path.join(self.local.path, name))
            for name in ('Makefile', 'README.md'):      # which tests serve
                shutil.copy(name, self.local.path)
            os.mkdir(os.path.join(self.local.path, 'build'))
        return self.local.path

    def write(self, text):
        with open(os.path.join(self.folder(), 'httpsbind.h'), 'w', encoding='utf-8') as f:
            f.write(text)

    def build(self, path, flags):
        made = os.path.join(self.folder(), 'program')
        done = subprocess.run([CC, *FLAGS, *flags, '-o', made, path, *LIBS], cwd=self.folder(),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return made if done.returncode == 0 else None

    def run(self, program, path, seconds):
        """Returns what was noticed, or ''."""
        arguments = sorted(glob.glob('tests/wire/*.txt')) if 'wire/' in path else []
        begin = time.monotonic()
        child = subprocess.Popen([program, *arguments], cwd=self.folder(), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 start_new_session=True)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = 'hangs'
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
        self.took = time.monotonic() - begin
        return '' if code == 0 else 'hangs' if code == 'hangs' else 'fails' if code > 0 else 'dies'

    def usual(self, path, flags, original):
        """How long the program takes with the header as it is, which it has to like."""
        key = path, flags[0]
        with self.lock:
            gate = self.gate.setdefault(key, threading.Lock())
        with gate:
            if key not in self.seconds:
                self.write(original)
                for _ in range(3):              # a busy machine is not the program's fault
                    program = self.build(path, flags)
                    if program and not self.run(program, path, 300):
                        break
                else:
                    sys.exit('%s fails with the header as it is (%s)' % (path, ' '.join(flags)))
                self.seconds[key] = self.took
            return self.seconds[key]

    def same_code(self, text, original):
        """Whether the optimizer makes the same of both."""
        with self.lock:
            if self.object is None:
                self.object = self.compiled(original)
        return self.compiled(text) == self.object

    def compiled(self, text):
        self.write(text)
        path = os.path.join(self.folder(), 'same')
        with open(path + '.c', 'w', encoding='utf-8') as f:
            f.write('#include "httpsbind.h"\n')
        subprocess.run([CC, *ALL, *FLAGS, '-O1', '-c', '-o', path + '.o', 'same.c'], cwd=self.folder(),
                       check=True)
        with open(path + '.o', 'rb') as f:
            return f.read()


def runs_of(shop, header, programs):
    """Triples of (flags, program, seconds it may take), after each stage a None."""
    units = [p for p in programs if '/unit/' in p]
    for flags, stage in ((PLAIN, units), (PLAIN, [p for p in programs if p not in units]),
                         (SANITIZED, [p for p in programs if not REUSE.search(p)])):
        usual = {p: shop.usual(p, PLAIN, header.text) for p in stage}
        for path in sorted(stage, key=lambda p: (FOLDERS.index(p.split('/')[1]), usual[p])):
            yield flags, path, 60 + 5 * shop.usual(path, flags, header.text)
        yield None


def try_change(shop, header, change, programs):
    """Sets the verdict: noticed, unnoticed, same; or '' if the compiler refuses the change."""
    lines = header.text.split('\n')
    lines[change.line - 1] = change.new
    text, asked = '\n'.join(lines), False
    for run in runs_of(shop, header, programs):
        if not run and not asked:               # the quick ones have not noticed it
            asked = True
            if shop.same_code(text, header.text):
                change.verdict = 'same'
                return
        if not run:
            continue
        flags, path, seconds = run
        shop.write(text)
        program = shop.build(path, flags)
        if not program:
            return
        what = shop.run(program, path, seconds)
        if what:
            change.verdict = 'noticed'
            change.by = '%s %s%s' % (path[6:-2], what, '' if flags is PLAIN else ' (sanitized)')
            return
    change.verdict = 'unnoticed'


# --- the list of what cannot be noticed -------------------------------------------------------

def read_listed(path):
    """{(section, old, new): reason}: the section's tag, then entries of three lines or more."""
    listed, tag, old, new = {}, '', '', ''
    with open(path, encoding='utf-8') as f:
        for line in f.read().split('\n'):
            if line.startswith('>>'):
                tag = line[2:].strip()
            elif line.startswith('- '):
                old = line[2:].strip()
            elif line.startswith('+ '):
                new = line[2:].strip()
            elif line.startswith('  ') and line.strip():
                key = tag, old, new
                listed[key] = (listed.get(key, '') + ' ' + line.strip()).strip()
    return listed


# --- all --------------------------------------------------------------------------------------

def section_run(shop, header, section, kinds, quota, listed, say):
    rng = random.Random('%d %s' % (SEED, section.tag))
    programs, done = programs_of(section), []
    for change in draw(kinds, rng):
        if len(done) == quota:
            break
        if (section.tag, change.old.strip(), change.new.strip()) in listed:
            change.verdict = 'listed'
        else:
            try_change(shop, header, change, programs)
        if change.verdict:
            done.append(change)
            say(change)
    return done


def table(all_changes, sections):
    print('\n%-12s %8s %10s %10s' % ('section', 'noticed', 'unnoticed', 'no change'))
    for tag in sections + ['in all']:
        mine = [c for c in all_changes if tag in (c.section, 'in all')]
        count = {v: sum(c.verdict == v for c in mine)
                 for v in ('noticed', 'unnoticed', 'listed', 'same')}
        if mine:
            print('%-12s %8d %10d %10d' % (tag, count['noticed'], count['unnoticed'],
                                           count['listed'] + count['same']))
    return count['noticed'], count['unnoticed']


def main(names):
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell's job ignores it, as
                                                                # children then would
    with open('httpsbind.h', encoding='utf-8') as f:
        header = rooms.Header(f.read())
    listed = read_listed('tests/mutate.txt')
    known = {line.strip() for line in header.text.split('\n')}
    for tag, old, _ in listed:
        if old not in known:
            print('tests/mutate.txt: >>%s has no longer: %s' % (tag, old))
    seen = compiled_lines('httpsbind.h')
    sections = [s for s in header.rooms if programs_of(s) and (not names or s.tag in names)]
    kinds = {s.tag: changes_of(header, s, seen) for s in sections}
    sections = [s for s in sections if kinds[s.tag]]
    quota = quotas({t: len({c.line for k in kinds[t].values() for c in k}) for t in
                    [s.tag for s in sections]})
    lock, progress = threading.Lock(), [0]

    def say(change):
        with lock:
            progress[0] += 1
            print('%d/%d >>%s %s%s' % (progress[0], sum(quota.values()), change.section,
                                       change.verdict, ' by ' + change.by if change.by else ''))
            if change.verdict in ('unnoticed', 'same'):
                print(change.diff())
            sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix='mutate-') as top:
        shop = Workshop(top)
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            runs = [pool.submit(section_run, shop, header, s, kinds[s.tag], quota[s.tag], listed, say)
                    for s in sections]
            changes = [c for run in runs for c in run.result()]
    noticed, unnoticed = table(changes, [s.tag for s in sections])
    print()
    for change in changes:
        if change.verdict == 'unnoticed':
            print('>>%s unnoticed\n%s\n' % (change.section, change.diff()))
    if noticed + unnoticed == 0:
        return 1
    per_cent = 100 * noticed / (noticed + unnoticed)
    print('%.1f %% of %d changes noticed (>= %d)' % (per_cent, noticed + unnoticed, TARGET))
    return per_cent < TARGET


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
