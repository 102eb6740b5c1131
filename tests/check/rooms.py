"""Which section of httpsbind.h may do what, and how long it may get.

    rooms.py httpsbind.h               check it: lines that begin with ok: or FAILED:
    rooms.py --uses httpsbind.h        print the right Uses line of every section
    rooms.py --mend httpsbind.h        write the right Uses lines into the banners
    rooms.py --self-test httpsbind.h   break copies of it, and see every fault reported

The rules hold for the implementation, from >>config to the last section of code:

  system   Only >>config, >>atomic, >>platform, >>process, >>windows,
           >>windows-files and >>poller may call the
           system.  The others may use what the header defines, BearSSL, and the short lists of
           plain C below.  Anything else counts as the system's, so a call that nobody has
           thought of is reported, too.
  halves   >>platform with >>process, and >>windows, are two halves, of which a system sees one:
           each name that another section uses is in both.  >>poller, which has parts for each
           system, may use what one half has alone.
  uses     A Uses line names exactly the sections whose functions, types, constants, macros
           or tables are named in this section's own code.  It leaves out >>config and >>api,
           which every section uses, and sections that are only reached through another one.
           It says "nothing" if no section is left.  >>public may say "everything".
  sizes    A section has at most 1,000 lines from banner to banner, and a function at most
           50, from its first line (attributes count) to its closing brace.
  tests    The files and folders that a Tests line names exist.

This is no compiler: it reads words and braces.  All branches of an #if are read.  A use of
another section's struct that names neither the struct nor a function is not seen.
"""
import bisect
import glob
import re
import sys

SYSTEM_SECTIONS = {'config', 'atomic', 'platform', 'process', 'windows', 'windows-files', 'poller'}
POSIX, WINDOWS = ('platform', 'process'), ('windows', 'windows-files')
UNLISTED = {'config'}                       # a Uses line need not name them
SECTION_LINES = 1000
FUNCTION_LINES = 50
COLUMNS = 90                                # of a Uses line

# Plain C: what these do depends on no system.  strerror, malloc, time and printf do.
# (strnlen is POSIX's, but every system has it and it asks for nothing.)
FUNCTIONS = set('''
    memchr memcmp memcpy memmove memset
    strchr strcmp strcspn strlen strncmp strnlen strrchr strspn strstr
    snprintf vsnprintf strtol strtoul strtoull strtoll qsort bsearch abs
    va_start va_end va_arg va_copy offsetof assert
    INT64_C UINT64_C INT32_C UINT32_C UINT8_C UINT16_C'''.split())
CONSTANTS = set('''
    NULL CHAR_BIT INT_MAX INT_MIN UINT_MAX
    LONG_MAX LONG_MIN ULONG_MAX LLONG_MAX LLONG_MIN ULLONG_MAX
    SIZE_MAX INT8_MAX INT16_MAX INT32_MAX INT64_MAX INT64_MIN UINT8_MAX UINT16_MAX UINT32_MAX
    UINT64_MAX INT32_MIN UINTPTR_MAX'''.split())
TYPES = set('''
    int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t
    size_t ptrdiff_t intptr_t uintptr_t intmax_t uintmax_t'''.split())
# What an #if may ask: the compiler and the processor, but not the system.
CONDITIONS = re.compile(r'defined|HSB_\w+|HTTPSBIND_\w+|BR_\w+|__GNUC__|__GNUC_MINOR__|__clang__|'
                        r'__STDC_VERSION__|__has_\w+|__BYTE_ORDER__|__ORDER_\w+|__SIZEOF_\w+|'
                        r'__x86_64__|__i386__|__aarch64__|__arm__|__SSE2__|__AES__')
# Words without capitals that are the system's wherever they stand.
WORDS = {'errno', 'environ', 'stdin', 'stdout', 'stderr', 'in6addr_any', 'in6addr_loopback'}
FIELDS = re.compile(r'(sin6?|ai|st|tv|s6|rlim|tm)_[a-z0-9]\w*|s_addr|ss_family|sa_(family|data)')
KEYWORDS = set('''
    if for while switch return sizeof else do case goto break continue default typedef static const
    extern inline volatile restrict register struct union enum void char short int long float double
    signed unsigned bool _Bool true false __attribute__ __extension__ asm'''.split())
ATTRIBUTES = {'HSB_PRINTF'}                 # macros before a function that say something of it

BANNER = re.compile(r'^/\* =* >>([a-z0-9-]+) =*$', re.M)
OURS = re.compile(r'hsb_|HSB_|HTTPSBIND_')
WORD = re.compile(r'[A-Za-z_]\w*')
TOKEN = re.compile(r'[A-Za-z_]\w*|->|\.\.\.|\d[\w.]*|[^\s\w]')
BLANKED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.M)


class Unreadable(Exception):
    pass


def blank(found):
    """Spaces for the text, so that every line keeps its number; a string stays a string."""
    text = found.group()
    if text[0] in '"\'':
        return '"' + re.sub(r'[^\n]', ' ', text[1:-1]) + '"'
    return re.sub(r'[^\n]', ' ', text)


class Token:
    __slots__ = ('text', 'line')

    def __init__(self, text, line):
        self.text, self.line = text, line


class Item:
    """What stands at file scope: a function, a declaration, a directive."""

    def __init__(self, kind, tokens):
        self.kind, self.tokens = kind, tokens
        self.first, self.last = tokens[0].line, tokens[-1].line
        self.name = self.named() if kind != 'directive' else ''

    def lines(self):
        return self.last - self.first + 1

    def named(self):
        """The function's name, or what a declaration declares."""
        words = [t.text for t in self.tokens]
        if words[0] in ('struct', 'union', 'enum') and len(words) == 3:
            return ''                           # struct x; says only that there is one
        depth, name = 0, ''
        for i, word in enumerate(words):
            if depth == 0 and pointed(words, i):
                return pointed(words, i)        # typedef int (*name)(int);
            if word in '([{':
                depth += 1
            elif word in ')]}':
                depth -= 1
            elif depth == 0 and word in ('=', ','):
                return name
            elif depth == 0 and WORD.match(word) and word not in KEYWORDS | ATTRIBUTES:
                name = word
                if words[i + 1:i + 2] == ['('] and words[0] != 'typedef':
                    return name
        return name


def pointed(words, i):
    """The name in (*name)( at i, or ''."""
    if words[i:i + 2] != ['(', '*']:
        return ''
    i += 2
    while words[i] in ('const', 'volatile'):
        i += 1
    return words[i] if words[i + 1:i + 3] in ([')', '('], ['[', ']']) else ''


class Section:
    def __init__(self, tag, first, last, text):
        self.tag, self.first, self.last = tag, first, last
        self.text = text
        self.items = []
        self.banner = text[:text.find('*/')]

    def lines(self):
        return self.last - self.first + 1

    def field(self, name):
        """The words behind Uses, Tests, ... in the banner, or None."""
        found = re.search(r'^   %s +(.*(?:\n {12}\S.*)*)' % name, self.banner, re.M)
        return ' '.join(found.group(1).split()) if found else None


class Header:
    def __init__(self, text):
        self.text = text
        self.starts = [0] + [m.end() for m in re.finditer('\n', text)]
        self.bare = BLANKED.sub(blank, text)
        self.sections = []
        banners = list(BANNER.finditer(text))
        ends = [m.start() for m in banners[1:]] + [len(text)]
        for found, end in zip(banners, ends):
            first = self.line(found.start())
            section = Section(found.group(1), first, self.line(end - 1), text[found.start():end])
            self.sections.append(section)
            section.at = found.start()
        tags = [s.tag for s in self.sections]
        if 'config' not in tags:
            raise Unreadable('there is no >>config')
        start = tags.index('config')
        self.api = set(WORD.findall(self.bare[:self.sections[start].at]))   # and what it names
        for section in self.sections[start:]:
            self.read(section)
        # Where there is only text, as in >>licence, there is nothing to check.
        self.rooms = [s for s in self.sections[start:]
                      if any(i.kind != 'directive' for i in s.items)]
        self.defined = {}                       # a name of both halves is >>platform's
        self.names = {}
        for section in self.rooms:
            names = {n for n in names_of(section) if OURS.match(n) and n not in self.api}
            self.names[section.tag] = names
            for name in names:
                self.defined.setdefault(name, section.tag)

    def line(self, at):
        return bisect.bisect_right(self.starts, at)

    def read(self, section):
        """Cuts a section into items."""
        bare = self.bare[section.at:section.at + len(section.text)]
        events = []
        for found in DIRECTIVE.finditer(bare):
            events.append((found.start(), 'directive', found.group()))
        code = DIRECTIVE.sub(lambda m: re.sub(r'[^\n]', ' ', m.group()), bare)
        for found in TOKEN.finditer(code):
            events.append((found.start(), 'token', found.group()))
        events.sort()
        depth, outer, item, function = 0, [], [], False
        for at, kind, text in events:
            line = self.line(section.at + at)
            if kind == 'directive':
                section.items.append(Item('directive', directive(text, line)))
                word = section.items[-1].tokens[1].text if len(section.items[-1].tokens) > 1 else ''
                if word in ('if', 'ifdef', 'ifndef'):
                    outer.append((depth, list(item), function))
                elif word in ('else', 'elif') and outer:
                    depth = outer[-1][0]        # each branch starts from the same braces
                    if not item:
                        item, function = list(outer[-1][1]), outer[-1][2]
                elif word == 'endif' and outer:
                    outer.pop()
                continue
            item.append(Token(text, line))
            if text in '([{':
                if text == '{' and depth == 0:
                    function = is_body(item)
                depth += 1
            elif text in ')]}':
                depth -= 1
            if depth < 0:
                raise Unreadable('line %d: a brace too much' % line)
            if depth == 0 and (text == ';' or (text == '}' and function)):
                if len(item) > 1:
                    section.items.append(Item('function' if function else 'declaration', item))
                item, function = [], False
        if depth or item:
            raise Unreadable('>>%s: braces that do not close' % section.tag)


def directive(text, line):
    tokens = []
    for n, part in enumerate(text.split('\n')):
        tokens += [Token(t, line + n) for t in TOKEN.findall(part) if t != '\\']
    return tokens


def is_body(item):
    """Whether the brace that ends these tokens opens a function: it follows its parameters."""
    words = [t.text for t in item]
    return words[-2:-1] == [')'] and '=' not in words


def names_of(section):
    """What a section defines at file scope."""
    for item in section.items:
        words = [t.text for t in item.tokens]
        if item.kind == 'directive':
            if words[1:2] == ['define']:
                yield words[2]
            continue
        if item.name:
            yield item.name
        if item.kind == 'function':
            continue
        for i, word in enumerate(words):
            if word in ('struct', 'union', 'enum') and words[i + 2:i + 3] == ['{']:
                yield words[i + 1]
            if word == 'enum' and '{' in words[i + 1:i + 3]:
                yield from enumerators(words[words.index('{', i):])


def enumerators(words):
    depth, fresh = 0, False
    for word in words:
        if word in '({[':
            depth += 1
            fresh = depth == 1
        elif word in ')}]':
            depth -= 1
            if depth == 0:
                return
        elif depth == 1 and fresh and WORD.match(word):
            yield word
            fresh = False
        elif depth == 1 and word == ',':
            fresh = True


# --- the system ---------------------------------------------------------------------------

def system_of(header):
    """Rows of (line, section, function, what)."""
    pointers = set(function_types(header))
    for section in header.rooms:
        if section.tag in SYSTEM_SECTIONS:
            continue
        for item in section.items:
            words = [t.text for t in item.tokens]
            first, where = 0, item.name if item.kind == 'function' else ''
            if item.kind == 'directive':
                for line, what in wrong_directive(item.tokens, words):
                    yield line, section.tag, '', what
                if words[1:2] != ['define']:
                    continue
                first, where = 3, words[2]
            local = local_names(words, pointers)
            for i in range(first, len(words)):
                what = judge(words, i, local) if WORD.match(words[i]) else None
                if what:
                    yield item.tokens[i].line, section.tag, where, what


def wrong_directive(tokens, words):
    word = words[1] if len(words) > 1 else ''
    if word == 'include':
        yield tokens[0].line, 'includes a header'
    if word in ('if', 'ifdef', 'ifndef', 'elif'):
        for token in tokens[2:]:
            if WORD.match(token.text) and not CONDITIONS.fullmatch(token.text):
                yield token.line, 'asks #%s %s' % (word, token.text)


def judge(words, i, local):
    """What is wrong with the word, or None."""
    word = words[i]
    before = words[i - 1] if i else ''
    after = words[i + 1] if i + 1 < len(words) else ''
    if before in ('.', '->'):
        return 'uses the field ' + word if FIELDS.fullmatch(word) else None
    if OURS.match(word) or word.startswith(('br_', 'BR_', '__builtin_')) or word in KEYWORDS:
        return None
    if before in ('struct', 'union', 'enum'):
        return 'names the %s %s' % (before, word)
    if word in WORDS:
        return 'uses ' + word
    if after == '(' and not is_attribute(words, i):
        return None if word in FUNCTIONS or word in local or word in TYPES else 'calls ' + word
    if re.fullmatch(r'[a-z0-9_]+_t', word):
        return None if word in TYPES else 'names the type ' + word
    if re.fullmatch(r'[A-Z][A-Z0-9_]+', word) and word not in CONSTANTS | local:
        return 'uses ' + word
    return None


def is_attribute(words, i):
    """Whether the word stands within __attribute__((...))."""
    depth = 0
    for word in reversed(words[max(0, i - 12):i]):
        if word == ')':
            depth += 1
        elif word == '(':
            depth -= 1
        elif word == '__attribute__':
            return depth < 0
        elif word in ';{}':
            return False
    return False


def function_types(header):
    """Types that are functions, or pointers to functions."""
    for found in re.finditer(r'\btypedef\b[^;{}]*?\(\s*\*\s*(\w+)\s*\)\s*\(', header.bare):
        yield found.group(1)
    for found in re.finditer(r'\btypedef\b[^;{}()]*?(\w+)\s*\(', header.bare):
        yield found.group(1)


def local_names(words, pointers):
    """The parameters and variables of a function that can be called, the constants of its own
    enums, and the parameters of a macro."""
    found = set()
    for i in range(len(words) - 2):
        if pointed(words, i):
            found.add(pointed(words, i))
        if words[i] in pointers or words[i].startswith('br_'):
            found.add(words[i + 2] if words[i + 1] == '*' else words[i + 1])
        if words[i] == 'enum' and '{' in words[i + 1:i + 3]:
            found.update(enumerators(words[words.index('{', i):]))
    if words[:2] == ['#', 'define'] and words[3:4] == ['(']:
        found.update(words[4:words.index(')')])
    return found


# --- uses ---------------------------------------------------------------------------------

def uses_of(header, section):
    """The sections that this one names: {tag: (a name, its line)}, in their order."""
    used = {}
    for item in section.items:
        before = ''
        for token in item.tokens:
            tag = header.defined.get(token.text)
            if tag and token.text not in header.names[section.tag] and tag not in UNLISTED and \
               before not in ('.', '->'):
                used.setdefault(tag, (token.text, token.line))
            before = token.text
    return {s.tag: used[s.tag] for s in header.rooms if s.tag in used}


def half_names(header):
    """Rows for names that other sections use, and that only one half has."""
    told = set()
    for section in header.rooms:
        if section.tag in POSIX + WINDOWS:
            continue
        for item in section.items:
            before = ''
            for token in item.tokens:
                has = [h for h in POSIX + WINDOWS if token.text in header.names.get(h, ())]
                if len(has) == 1 and section.tag != 'poller' and before not in ('.', '->') and \
                   token.text not in told:
                    told.add(token.text)
                    yield '%d: >>%s uses %s, which only >>%s has' % (
                        token.line, section.tag, token.text, has[0])
                before = token.text


def uses_line(tags):
    """The line of a banner, wrapped."""
    lines, words = [], ['>>' + t for t in tags] or ['nothing']
    line = '   Uses    '
    for word in words:
        if len(line) + 1 + len(word) > COLUMNS:
            lines.append(line)
            line = ' ' * 11
        line += ' ' + word
    return '\n'.join(lines + [line])


def says_everything(section):
    return section.tag == 'public' and section.field('Uses') == 'everything'


def wrong_uses(header):
    for section in header.rooms:
        if says_everything(section):
            continue
        told = section.field('Uses') or ''
        used = uses_of(header, section)
        tags = re.findall(r'>>([a-z0-9-]+)', told)
        stray = re.sub(r'>>[a-z0-9-]+|[,\s]', '', told)
        lacks = [t for t in used if t not in tags]
        extra = [t for t in tags if t not in used]
        if lacks or extra or stray != ('' if tags else 'nothing'):
            text = ['>>%s, line %d:' % (section.tag, section.first)]
            text += ['  lacks   >>%s (%s in line %d)' % ((t,) + used[t]) for t in lacks]
            text += ['  extra   >>%s' % t for t in extra]
            if stray != ('' if tags else 'nothing'):
                text.append('  says    ' + (told or 'nothing at all: it has no Uses line'))
            yield '\n'.join(text + [uses_line(used)])


def mended(header):
    text = header.text
    for section in reversed(header.rooms):
        if says_everything(section):
            continue
        line = uses_line(uses_of(header, section))
        if section.field('Uses') is None:
            banner = re.sub(r'^   Names ', line + r'\n\g<0>', section.banner, count=1, flags=re.M)
        else:
            banner = re.sub(r'^   Uses .*(?:\n {12}\S.*)*', line, section.banner, count=1,
                            flags=re.M)
        text = text[:section.at] + banner + text[section.at + len(section.banner):]
    return text


def missing_tests(header):
    for section in header.rooms:
        told = section.field('Tests')
        if told is None:
            yield '>>%s, line %d: no Tests line' % (section.tag, section.first)
            continue
        names = re.findall(r'tests/[\w./*-]*[\w*]', told)
        if not names:
            yield '>>%s, line %d: Tests names no file' % (section.tag, section.first)
        for name in names:
            if not glob.glob(name):
                yield '>>%s, line %d: there is no %s' % (section.tag, section.first, name)


# --- the checks ---------------------------------------------------------------------------

def functions_of(header):
    return [(i, s) for s in header.rooms for i in s.items if i.kind == 'function']


def faults(header, name):
    """[(what is checked, [what is wrong])]."""
    found = {}
    for line, tag, where, what in system_of(header):
        row = found.setdefault((line, '>>' + tag + (where and ' ' + where)), [])
        if what not in row:
            row.append(what)
    system = ['%s:%d: %s %s' % (name, line, where, ', '.join(what))
              for (line, where), what in sorted(found.items())]
    unknown = sorted({'%s:%d: %s is defined nowhere' % (name, t.line, t.text)
                      for s in header.rooms if s.tag != 'config' for i in s.items for t in i.tokens
                      if re.match(r'hsb__|HSB__', t.text) and t.text not in header.defined
                      and t.text not in header.api})
    sizes = ['>>%s has %d lines' % (s.tag, s.lines()) for s in header.rooms
             if s.lines() > SECTION_LINES]
    sizes += ['%s:%d: %s has %d lines' % (name, i.first, i.name, i.lines())
              for i, s in functions_of(header) if i.lines() > FUNCTION_LINES]
    halves = ['%s:%s' % (name, row) for row in half_names(header)]
    return [('only the sections of the system know it',
             system),
            ('>>platform with >>process, and >>windows, have the same names for the other sections', halves),
            ('every private name is defined in a section', unknown),
            ('each Uses line names the sections that are used', list(wrong_uses(header))),
            ('no section is over 1000 lines, no function over 50', sizes),
            ('what the Tests lines name exists', list(missing_tests(header)))]


def check(name):
    header = Header(open(name, encoding='utf-8').read())
    failed = False
    for what, wrong in faults(header, name):
        print('FAILED: %s (%d)' % (what, len(wrong)) if wrong else 'ok: ' + what)
        for text in wrong:
            print('\n'.join('    ' + line for line in text.split('\n')))
        failed = failed or bool(wrong)
    rooms = sorted(header.rooms, key=Section.lines, reverse=True)[:3]
    functions = sorted((i for i, s in functions_of(header)), key=Item.lines, reverse=True)[:3]
    print('    longest sections: ' + ', '.join('>>%s %d' % (s.tag, s.lines()) for s in rooms))
    print('    longest functions: ' + ', '.join('%s %d' % (i.name, i.lines()) for i in functions))
    return failed


# --- the test of the test -----------------------------------------------------------------

# Each line is reported, as the words behind it say; what is not reported comes after.
PROBES = [
    ('    getsockopt(a, 1, 2, &a, &a);', 'calls getsockopt'),
    ('    if (a > 1 && pthread_kill(a, 9))', 'calls pthread_kill'),
    ('    a += S_ISREG(a);', 'calls S_ISREG'),
    ('    nobody_has_heard_of_it (a);', 'calls nobody_has_heard_of_it'),
    ('    a = errno;', 'uses errno'),
    ('    a = -ECONNRESET;', 'uses ECONNRESET'),
    ('    a |= MSG_DONTWAIT;', 'uses MSG_DONTWAIT'),
    ('    struct stat facts;', 'names the struct stat'),
    ('    a += sizeof(socklen_t);', 'names the type socklen_t'),
    ('    a += b->st_size;', 'uses the field st_size'),
    ('#ifdef __linux__', 'asks #ifdef __linux__'),
    ('#elif defined(SO_REUSEPORT)', 'asks #elif SO_REUSEPORT'),
    ('#endif', None),
    ('#ifdef HSB_NO_THREADS', None),
    ('    if (a) {', None),
    ('#else', None),
    ('    if (!a) {', None),
    ('#endif', None),
    ('    }', None),
    ('#if defined(__GNUC__) && !defined(HSB_NO_THREADS)', None),
    ('#endif', None),
    ('    /* getpeername(a, SO_ERROR) in a comment */', None),
    ('    a += strlen("setsockopt(a, AF_INET6, errno)") + \'{\';', None),
    ('    a += b->read(b) + b->poll.recv(b) + (*b->send)(b);', None),
    ('    a += ours(a) + (size_t)INT_MAX;', None),
    ('    uint8_t (*open)(int) = b->open; a += open(a);', None),
    ('    enum { FIRST, SECOND = 2 } c = FIRST;', None),
    ('    int (*const later)(int) = ours; br_hash_run run = b->run; later(a); run(a);', None),
    ('    br_hmac_init(b, a); memcpy(b, &a, 2);', None),
]


def probe(name, lines):
    return 'static void %s(int a, hsb_conn *b, int (*ours)(int))\n{\n%s\n}\n\n' % (
        name, '\n'.join(lines))


def insert(text, tag, more):
    """The text with more at the end of a section."""
    at = [m for m in BANNER.finditer(text) if m.group(1) == tag][0]
    end = BANNER.search(text, at.end()).start()
    return text[:end] + more + text[end:]


def self_test(name):
    """Breaks copies of the header, and looks for each fault in the reports."""
    text = open(name, encoding='utf-8').read()
    header = Header(text)
    rooms = [s for s in header.rooms if s.tag not in SYSTEM_SECTIONS and not says_everything(s)]
    tag = max(rooms, key=lambda s: len(uses_of(header, s))).tag
    wrong = []

    def expect(what, rows, words, is_there=True):
        if any(words in row for row in rows) != is_there:
            wrong.append('%s: "%s" is %sreported' % (what, words, 'not ' if is_there else ''))

    # the system, and the sizes of functions
    lines = [line for line, _ in PROBES]
    broken = insert(text, tag, probe('hsb__probe', lines) +
                    probe('hsb__probe_50', ['    a++;'] * 47) + probe('hsb__probe_51', [''] * 48))
    broken = insert(broken, 'platform', probe('hsb__probe_system', lines))
    broken = insert(broken, 'windows', probe('hsb__probe_windows', lines))
    reports = [rows for _, rows in faults(Header(broken), name)]
    at = broken[:broken.index('hsb__probe(int a')].count('\n') + 3
    for n, (line, words) in enumerate(PROBES):
        row = [r for r in reports[0] if r.startswith('%s:%d: ' % (name, at + n))]
        if words:
            expect(line.strip(), row, '>>%s' % tag)
            expect(line.strip(), row, words)
        elif row:
            wrong.append('reported: ' + row[0])
    expect('platform', reports[0], 'hsb__probe_system', False)
    expect('windows', reports[0], 'hsb__probe_windows', False)
    expect('50 lines', reports[4], 'hsb__probe_50', False)
    expect('51 lines', reports[4], 'hsb__probe_51 has 51 lines')

    # the halves: a name that one of them lacks, and one that the other has alone
    broken = text
    for half, lost in (('platform', 'hsb__os_peek'), ('windows', 'hsb__os_recv')):
        at = [m for m in BANNER.finditer(broken) if m.group(1) == half][0].start()
        found = re.compile(r'\b%s\b' % lost).search(broken, at)
        broken = broken[:found.start()] + 'hsb__os_lost' + broken[found.end():]
    reports = [rows for _, rows in faults(Header(broken), name)]
    expect('halves', reports[1], 'uses hsb__os_peek, which only >>windows has')
    expect('halves', reports[1], 'uses hsb__os_recv, which only >>platform has')
    if len(reports[1]) != 2:
        wrong.append('halves: %d names are reported, and two are wrong' % len(reports[1]))

    # Uses lines, the length of a section, private names, Tests lines
    right = mended(header)
    fixed = Header(right)
    if list(wrong_uses(fixed)) or mended(fixed) != right:
        wrong.append('--mend: the lines that it writes are wrong')
    section = [s for s in fixed.rooms if s.tag == tag][0]
    used = list(uses_of(fixed, section))
    other = [s.tag for s in fixed.rooms if s.tag not in used + [tag]][-1]
    banner = section.banner.replace(uses_line(used), uses_line(used[:-1] + [other]))
    banner = re.sub(r'tests/[a-z]+', 'tests/nowhere', banner, count=1)
    broken = right[:section.at] + banner + right[section.at + len(section.banner):]
    broken = insert(broken, tag, 'static int hsb__probe = HSB__NOWHERE;\n')
    small = sorted(fixed.rooms, key=Section.lines)[:2]
    for n, s in enumerate(small):
        broken = insert(broken, s.tag, '\n' * (1000 + n - s.lines() - (s.tag == tag)))
    reports = [rows for _, rows in faults(Header(broken), name)]
    for words in ('>>%s, line' % tag, 'lacks   >>' + used[-1], 'extra   >>' + other,
                  uses_line(used)):
        expect('Uses', reports[3], words)
    if len(reports[3]) != 1:
        wrong.append('Uses: %d sections are reported, and one is wrong' % len(reports[3]))
    expect('private names', reports[2], 'HSB__NOWHERE is defined nowhere')
    expect('1000 lines', reports[4], '>>%s has' % small[0].tag, False)
    expect('1001 lines', reports[4], '>>%s has 1001 lines' % small[1].tag)
    expect('Tests', reports[5], 'there is no tests/nowhere')
    print('FAILED: the faults of broken copies are reported' if wrong else
          'ok: the faults of broken copies are reported')
    for text in wrong:
        print('    ' + text)
    return bool(wrong)


def main(arguments):
    option = arguments.pop(0) if arguments and arguments[0].startswith('--') else ''
    if len(arguments) != 1 or option not in ('', '--uses', '--mend', '--self-test'):
        sys.exit(__doc__)
    name = arguments[0]
    if option == '':
        return check(name)
    if option == '--self-test':
        return self_test(name)
    header = Header(open(name, encoding='utf-8').read())
    if option == '--uses':
        for section in header.rooms:
            print('>>%s\n%s' % (section.tag, '   Uses     everything' if says_everything(section)
                                else uses_line(uses_of(header, section))))
        return False
    text = mended(header)
    with open(name, 'w', encoding='utf-8') as out:
        out.write(text)
    return False


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except Unreadable as why:
        sys.exit('FAILED: rooms.py cannot read the header: %s' % why)
