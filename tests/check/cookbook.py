#!/usr/bin/env python3
"""The recipes of examples/README.md: each is built as it says there, started, and asked what it
says there, and gives the answer that stands there.

    cookbook.py                     all of them
    cookbook.py 'JSON in and out'   these
    cookbook.py --program NAME      print the program of one

A recipe is what stands below a heading of three marks.  Its ```c blocks are one program: a block
whose first line is the comment "in answer:" or "in main:" takes the place of that comment in the
program at the top, every other block that of answer, of main, or of both.  A ```console block has
the commands, after "$ ", and what they print; "..." is any text in one line.  A line of "./hello"
starts the program; without one it is started before the first line that has its port.
Ports of the text become free ones."""
import os, re, shutil, signal, socket, subprocess, sys, tempfile, time

BOOK = 'examples/README.md'
STRICT = '-std=c99 -Wall -Wextra -pedantic -Wconversion -Wshadow -Werror'.split()
BEARSSL = os.environ.get('BEARSSL')
INCLUDE = ['-I.'] + (['-isystem', BEARSSL + '/inc'] if BEARSSL else [])
LIBS = [BEARSSL + '/build/libbearssl.a' if BEARSSL else '-lbearssl', '-lpthread']
# What comes with the implementation, which is compiled once for all of them.
BROUGHT = [w for h in ('stdio', 'stdlib', 'string') for w in ('-include', h + '.h')]


# Built here, and run by another script.
ELSEWHERE = ['HTTPS on the internet in one command']     # acme.sh


class Failed(Exception):
    pass


def read_book():
    """{name: [(language, [lines])]}, and the program at the top."""
    recipes, name, block = {}, None, None
    for line in open(BOOK, encoding='utf-8').read().splitlines():
        fence = re.match(r'^```(\w*)$', line)
        if block is not None:
            if fence:
                block = None
            else:
                block.append(line)
        elif fence:
            block = []
            recipes.setdefault(name, []).append((fence[1], block))
        elif line.startswith('#'):
            name = line.lstrip('#').strip()
    return recipes


RECIPES = read_book()
FRAME = next('\n'.join(b) + '\n' for n in RECIPES for lang, b in RECIPES[n] if lang == 'c')


def indent(lines):
    return '\n'.join('    ' + l if l else l for l in lines)


def function(name, text):
    """The text of a function, from the top of the file."""
    found = re.search(r'^[a-z][^\n;]*[ *]%s\(.*?^}\n' % name, text, re.M | re.S)
    return found[0] if found else ''


def program(name):
    places = {'answer': [], 'main': []}
    whole = []
    for lang, lines in RECIPES[name]:
        if lang != 'c':
            continue
        marker = re.match(r'/\* in (answer|main): \*/$', lines[0])
        if marker:
            places[marker[1]].append(indent(lines[1:]))
        else:
            whole.append('\n'.join(lines) + '\n')
    if not whole and not places['answer'] and not places['main']:
        return None
    text = '\n'.join(whole)
    defines = ''.join(re.findall(r'^#define HTTPSBIND_.*\n', text, re.M))
    includes = ''.join(re.findall(r'^#include.*\n', text, re.M))
    text = re.sub(r'^#(include|define HTTPSBIND_).*\n', '', text, flags=re.M)
    answer, main = function('answer', FRAME), function('main', FRAME)
    hello = '    hsb_respond(req, 200, "text/plain", hsb_text("Hello over HTTPS\\n"));'
    answer = answer.replace('    /* in answer: */', '\n'.join(places['answer']) or hello)
    main = main.replace('    /* in main: */', '\n'.join(['    desc.port = 8443;'] + places['main']))
    needs_answer = re.search(r'[^_]\banswer\b', text + main) and not function('answer', text)
    if function('main', text):
        main, needs_answer = '', re.search(r'[^_]\banswer\b', text) and not function('answer', text)
    first = defines + FRAME[:FRAME.index('static void answer')]
    own = function('main', text)
    text = text.replace(own, '') if own else text
    parts = [text, answer if needs_answer else '', own or main]
    return first + includes + '\n'.join(p for p in parts if p)


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(('127.0.0.1', 0))
    return [str(s.getsockname()[1]) for s in sockets]


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        raise Failed('%s\n%s' % (' '.join(command), done.stdout))


def implementation(switch):
    """An object with the whole header, compiled with this switch."""
    made = os.path.join(SCRATCH, 'unit%s.o' % switch)
    if not os.path.exists(made):
        with open(made + '.c', 'w') as unit:
            unit.write('#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n')
        run([os.environ.get('CC', 'cc'), '-O0', switch, '-c'] + INCLUDE + ['-o', made, made + '.c'])
    return made


class Trial:
    def __init__(self, name, tmp):
        self.name, self.tmp, self.servers = name, tmp, []
        self.ports = dict(zip(('8443', '8444', '8445', '8080'), free_ports(4)))

    def local(self, text):
        return re.sub(r'\b(%s)\b' % '|'.join(self.ports), lambda m: self.ports[m[1]], text)

    def build(self):
        text = program(self.name)
        cpp = ['\n'.join(b) + '\n' for lang, b in RECIPES[self.name] if lang == 'cpp']
        if cpp:
            text = cpp[0]
        elif text is None:
            return False
        text = text.replace('#define HTTPSBIND_IMPLEMENTATION\n', '')
        text = self.local(text) if not cpp else text.replace(
            'desc = {};', 'desc = {}; desc.port = %s;' % self.ports['8443'])
        source = os.path.join(self.tmp, 'hello.cc' if cpp else 'hello.c')
        with open(source, 'w', encoding='utf-8') as out:
            out.write(text)
        libs = LIBS + (['-lcrypto'] if '<openssl/' in text else [])
        if cpp:
            compiler = ['c++', '-std=c++11', '-Wall', '-Wextra', '-pedantic', '-Werror']
        else:
            compiler = [os.environ.get('CC', 'cc'), '-D_GNU_SOURCE'] + STRICT + BROUGHT
        switch = '-DHTTPSBIND_ACME' if '#define HTTPSBIND_ACME' in text else '-UHTTPSBIND_ACME'
        run(compiler + ['-O0'] + INCLUDE + ['-o', self.tmp + '/hello', source, implementation(switch)] + libs)
        return True

    def start(self, command='./hello'):
        command = command.rstrip('& ')
        log = open(self.tmp + '/hello.log', 'a')
        # A shell that becomes the program, so that its id is the program's.
        at = command.index('./hello')
        server = subprocess.Popen(['sh', '-c', command[:at] + 'exec ' + command[at:]] if at == 0 else
                                  ['env'] + command.split(), cwd=self.tmp, stdout=log, stderr=log)
        self.servers.append(server)
        wanted = [self.ports[p] for p in self.ports if self.ports[p] in command] or [self.ports['8443']]
        for _ in range(200):
            if os.path.exists(self.tmp + '/hello.sock'):
                return
            try:
                socket.create_connection(('localhost', int(wanted[0])), 1).close()
                return
            except OSError:
                time.sleep(0.05)
            if server.poll() is not None:
                break
        raise Failed('it does not start:\n' + open(self.tmp + '/hello.log').read())

    def try_all(self, built):
        lines = [l for lang, b in RECIPES[self.name] if lang == 'console' for l in b]
        commands = []
        while lines:
            line = lines.pop(0)
            if line.startswith('$ '):
                while line.endswith('\\'):
                    line = line[:-1] + lines.pop(0).strip()
                commands.append((self.local(line[2:]), []))
            else:
                commands[-1][1].append(self.local(line))
        for command, wanted in commands:
            if './hello' in command:
                self.start(command)
                continue
            uses = any(p in command for p in [*self.ports.values(), 'hello.sock'])
            if built and uses and not self.servers:
                self.start()
            self.one(command, wanted)
        if built and not self.servers and self.name not in ELSEWHERE:
            raise Failed('no command starts it or asks it')

    def one(self, command, wanted):
        # Not every program of that name on this machine.
        command = re.sub(r'\bpkill -(\w+) hello\b', lambda m: 'kill -%s %d' % (m[1], self.servers[0].pid), command)
        done = subprocess.run(['bash', '-c', command], cwd=self.tmp, timeout=60, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors='replace')
        got = done.stdout.replace('\r', '').rstrip('\n')
        pattern = '\n'.join('.*'.join(re.escape(p) for p in l.split('...')) for l in wanted)
        if wanted and not re.fullmatch(pattern, got):
            raise Failed('%s\nprints\n%s\n%s\ninstead of\n%s' % (command, got, done.stderr, '\n'.join(wanted)))
        if not wanted and done.returncode != 0:
            raise Failed('%s\nfails with %d\n%s' % (command, done.returncode, done.stderr))

    def end(self):
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        for server in self.servers:
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise Failed('it does not end')


def attempt(name, tmp):
    folder = os.path.join(tmp, re.sub(r'\W+', '-', name))
    os.mkdir(folder)
    for file in ('examples', 'httpsbind.h', 'README.md'):
        os.symlink(os.path.abspath(file), os.path.join(folder, file))
    trial = Trial(name, folder)
    try:
        trial.try_all(trial.build())
        trial.end()
    except (Failed, subprocess.TimeoutExpired) as why:
        print('FAILED: %s: %s' % (name, why))
        return False
    finally:
        for server in trial.servers:
            if server.poll() is None:
                server.kill()
                server.wait()
    print('    ' + name, flush=True)
    return True


def main():
    global SCRATCH
    if sys.argv[1:2] == ['--program']:
        sys.stdout.write(program(sys.argv[2]))
        return 0
    names = sys.argv[1:] or [n for n in RECIPES if any(l in ('c', 'cpp') for l, _ in RECIPES[n])][1:]
    tmp = SCRATCH = tempfile.mkdtemp()
    try:
        wrong = [n for n in names if not attempt(n, tmp)]
    finally:
        shutil.rmtree(tmp)
    print('%d recipes, %d wrong' % (len(names), len(wrong)))
    return 1 if wrong or len(names) == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
