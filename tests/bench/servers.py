"""Starts the servers that are measured, and reads what they cost.

Each is one process (nginx: with a worker) on a port of its own on 127.0.0.1, speaks one version of
TLS, has the same certificate, answers GET / with "hello\n" and, all but haproxy, GET /bytes/N with
N bytes.  Their configurations are in peers/.  All files are below build/bench.
"""
import getpass
import glob
import grp
import itertools
import os
import resource
import shutil
import subprocess

OUT = 'build/bench'
CERT, KEY = 'tests/data/server-p256.pem', 'tests/data/server-p256.key'
CC = (os.environ.get('CC') or 'cc').split()
BEARSSL = os.environ.get('BEARSSL', '')
DOWNLOAD = 256 << 20                    # the N of /bytes/N that a file server must have
CONNECTIONS = 16000                     # for which peers have room, if nobody asks for more

# The program that a peer needs; microhttpd is built here, if its header is there.
PEERS = {'nginx': 'nginx', 'lighttpd': 'lighttpd', 'haproxy': 'haproxy', 'caddy': 'caddy',
         'microhttpd': 'microhttpd'}
RARE = set(PEERS) - {'nginx'}                # they take part in fewer rounds, with fewer handshakes
CANNOT = {'haproxy': {'bulk'}, 'microhttpd': {'resumed'}}       # no files; no sessions

ports = itertools.count(20000 + os.getpid() % 10000, 2)         # below the ephemeral ones
running = []


class Failed(Exception):
    pass


def allow_descriptors(count):
    """How many descriptors a process started from here may have: count, or fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in (count, max(count, hard)), (min(count, hard), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return limits[0]
        except (OSError, ValueError):   # who is not root cannot raise the hard limit
            pass
    return soft


# --- programs --------------------------------------------------------------------------------

def compile_program(name, source, bearssl=BEARSSL, libs=('-lssl', '-lcrypto')):
    """Builds a program into OUT, with the BearSSL of that folder or the installed one; not again
    if the same command has built it of the same files."""
    os.makedirs(OUT, exist_ok=True)
    tls = [f'-I{bearssl}/inc', f'{bearssl}/build/libbearssl.a'] if bearssl else ['-lbearssl']
    command = [*CC, '-std=c99', '-D_GNU_SOURCE', '-O2', '-g', '-I.', '-Itests', '-o', f'{OUT}/{name}',
               source, *tls, *libs, '-lpthread']
    used = [source, 'httpsbind.h', 'examples/common.h', *glob.glob('tests/*.h')]
    stamp, text = f'{OUT}/{name}.command', ' '.join(command)
    if os.path.exists(stamp) and all(os.path.getmtime(file) < os.path.getmtime(stamp) for file in used):
        with open(stamp, encoding='utf-8') as file:
            if file.read() == text:
                return
    subprocess.run(command, check=True)
    with open(stamp, 'w', encoding='utf-8') as file:
        file.write(text)


def has_header(name):
    return subprocess.run([*CC, '-E', '-x', 'c', '-'], input=f'#include <{name}>\n', text=True,
                          capture_output=True, check=False).returncode == 0


def installed_peers():
    """The names of PEERS that are there, and of those that are not."""
    if has_header('microhttpd.h'):
        compile_program('microhttpd', 'tests/bench/peers/microhttpd.c', libs=('-lmicrohttpd',))
    there = [name for name, program in PEERS.items()
             if shutil.which(program) or (name == 'microhttpd' and has_header('microhttpd.h'))]
    return there, [name for name in PEERS if name not in there]


def configuration(template, name, **values):
    """Fills in a file of peers/, and returns its path below build/bench."""
    with open(f'tests/bench/peers/{template}', encoding='utf-8') as file:
        text = file.read()
    for key, value in values.items():
        text = text.replace(f'@{key}@', str(value))
    path = f'{OUT}/{name}.{template}'
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    return path


# --- a server --------------------------------------------------------------------------------

class Server:
    """A running server.  kind is a name of PEERS, or that of a program in OUT which takes the
    flags of the examples, with arguments of its own before them: "routes last"."""

    def __init__(self, kind, version, threads=1, connections=CONNECTIONS, before=()):
        self.kind, self.version, self.port = kind, version, next(ports)
        self.name = f'{kind.replace(" ", "-")}-{version}-{self.port}'
        command, environment = self.command(threads, connections)
        with open(f'{OUT}/{self.name}.out', 'wb') as log:
            self.process = subprocess.Popen([*before, *command], stdout=log, stderr=log,
                                            env={**os.environ, **environment})
        running.append(self)
        self.client('requests', 1)
        self.worker = self.process.pid
        if kind == 'nginx':
            with open(f'/proc/{self.worker}/task/{self.worker}/children', encoding='ascii') as file:
                self.worker = int(file.read().split()[0])

    def command(self, threads, connections):
        kind, port, version = self.kind, str(self.port), self.version
        if kind not in PEERS:
            program, *arguments = kind.split()
            flags = ['--threads', str(threads)] if program != 'members' else []
            return [f'{OUT}/{program}', *arguments, '--tls', version, '--address', '127.0.0.1',
                    '--port', port, '--cert', CERT, '--key', KEY, *flags], {}
        if kind == 'microhttpd':
            return [f'{OUT}/microhttpd', port, f'NORMAL:-VERS-ALL:+VERS-TLS{version}', CERT, KEY], {}
        template = {'nginx': 'nginx.conf', 'lighttpd': 'lighttpd.conf', 'haproxy': 'haproxy.cfg',
                    'caddy': 'Caddyfile'}[kind]
        here = os.getcwd()
        if kind == 'haproxy':           # wants two descriptors for each
            connections = min(connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 100)
        path = configuration(template, self.name, PORT=port, TLS=version, HERE=here, NAME=self.name,
                             FILES=connections + 500, CONNECTIONS=connections,
                             USER=f'{getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name}')
        return {
            'nginx': ['nginx', '-p', f'{here}/{OUT}', '-c', os.path.basename(path), '-e', f'{self.name}.log'],
            'lighttpd': ['lighttpd', '-D', '-f', path],
            'haproxy': ['haproxy', '-db', '-f', path],
            'caddy': ['caddy', 'run', '--adapter', 'caddyfile', '--config', path],
        }[kind], {'GOMAXPROCS': '1', 'HOME': f'{here}/{OUT}'} if kind == 'caddy' else {}

    def client(self, mode, count):
        """Runs client.c against it, and returns when that has ended."""
        done = subprocess.run([f'{OUT}/client', self.version, mode, str(self.port), str(count)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f'{self.name}: {done.stderr.strip()}; see {OUT}/{self.name}.out')

    def cpu(self):
        """User and system time of all threads, in microseconds."""
        total = 0
        for path in glob.glob(f'/proc/{self.worker}/task/*/schedstat'):
            with open(path, encoding='ascii') as file:
                total += int(file.read().split()[0])
        return total / 1000

    def user(self):
        """User time alone, which is counted in ticks; in microseconds."""
        with open(f'/proc/{self.worker}/stat', encoding='ascii') as file:
            ticks = int(file.read().rpartition(')')[2].split()[11])
        return ticks * 1e6 / os.sysconf('SC_CLK_TCK')

    def resident(self):
        with open(f'/proc/{self.worker}/status', encoding='ascii') as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith('VmRSS:'))

    def stop(self):
        running.remove(self)
        self.process.terminate()
        try:
            self.process.wait(30)       # callgrind writes its file now
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def stop_all():
    for server in list(running):
        server.stop()


class Held:
    """Connections that stay open, made by client.c: what "idle", "many", "crowd" and "members" do."""

    def __init__(self, server, mode, count):
        self.process = subprocess.Popen([f'{OUT}/client', server.version, mode, str(server.port),
                                         str(count)], stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        words = self.process.stdout.readline().split()
        if words[:1] != ['ready']:
            raise Failed(f'{server.name}: {self.process.communicate()[1].strip()}')
        self.seconds = float(words[1])

    def say(self, text):
        self.process.stdin.write(text + '\n')
        self.process.stdin.flush()
        if self.process.stdout.readline() != 'done\n':
            raise Failed(self.process.communicate()[1].strip())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()
