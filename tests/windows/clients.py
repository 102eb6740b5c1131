"""Clients on this side of a server.exe that runs under Wine: see tests/windows.sh.

    clients.py WINE SERVER.EXE FOLDER SECONDS

FOLDER is made anew.  Prints lines that begin with ok: or FAILED:.
"""
import concurrent.futures
import hashlib
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse

FILES = 1000
HELD = 1000
failed = []


def say(what, wrong=''):
    print(('FAILED: %s: %s' % (what, wrong)) if wrong else 'ok: ' + what, flush=True)
    if wrong:
        failed.append(what)


class Program:
    """An .exe under Wine that says on which port it listens; its trace of files goes to the log if
    it is asked for."""

    def __init__(self, wine, arguments, log, trace=False, **more):
        self.log = log
        environment = dict(os.environ, WINEDEBUG='-all,+file' if trace else '-all', **more)
        self.err = open(log, 'wb')
        self.process = subprocess.Popen([wine] + arguments, stdout=subprocess.PIPE,
                                        stderr=self.err, env=environment)
        line = self.process.stdout.readline().decode()
        found = re.search(r'[ :]([0-9]+)\b[^:]*$', line)
        if not found:
            self.process.kill()
            say(arguments[0], 'it does not start: %r, see %s' % (line, log))
            sys.exit(1)
        self.port = int(found.group(1))

    def descriptors(self):
        """Wine has one for each socket and file of the program."""
        return len(os.listdir('/proc/%d/fd' % self.process.pid))

    def stop(self):
        """Wine makes Ctrl-C of SIGINT."""
        self.process.send_signal(signal.SIGINT)
        text = self.process.stdout.read().decode()
        self.process.wait(30)
        self.err.close()
        return text.strip(), self.process.returncode


class Server(Program):
    """server.exe"""

    def __init__(self, wine, program, folder, log, trace=False):
        super().__init__(wine, [program, folder], log, trace)

    def facts(self):
        """(connections, bytes) of one of the servers"""
        client = Client(self)
        answer = client.get('/facts')[1].split()
        client.close()
        return [int(n) for n in answer]

    def stop(self):
        Client(self).get('/stop')
        text = self.process.stdout.read().decode()
        self.process.wait(30)
        self.err.close()
        return text.strip(), self.process.returncode


def context(version):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = made.maximum_version = version
    return made


TLS12, TLS13 = context(ssl.TLSVersion.TLSv1_2), context(ssl.TLSVersion.TLSv1_3)


class Client:
    """One connection that is kept alive; the path goes out as it is."""

    def __init__(self, server, tls=TLS13):
        plain = socket.create_connection(('127.0.0.1', server.port), 30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(plain, server_hostname='localhost')
        self.file = self.socket.makefile('rb')

    def get(self, path, method='GET', body=b''):
        head = '%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % (
            method, path, len(body))
        self.socket.sendall(head.encode('latin-1') + body)
        line = self.file.readline()
        if not line:
            raise EOFError
        length = 0
        while True:
            field = self.file.readline().strip().lower()
            if not field:
                break
            if field.startswith(b'content-length:'):
                length = int(field.split(b':')[1])
        return int(line.split()[1]), self.file.read(length if method != 'HEAD' else 0)

    def close(self):
        self.file.close()
        self.socket.close()


def make(folder):
    """FILES files, in folders, with names in many letters, and what lies outside."""
    shutil.rmtree(folder, ignore_errors=True)
    root = folder + '/root'
    names = []
    for i in range(FILES):
        names.append('%s/f\u00fc\u4e2d\U0001f600 %d.bin' % ('abc'[i % 3], i) if i % 7 == 0 else
                     '%s/deep/er/%d.txt' % ('abc'[i % 3], i) if i % 7 == 1 else '%d.bin' % i)
    for name in names:
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            f.write(os.urandom(int.from_bytes(os.urandom(2), 'big')))
    with open(root + '/large.bin', 'wb') as f:
        f.write(os.urandom(32 << 20))
    with open(root + '/long name of a file.txt', 'wb') as f:
        f.write(b'long\n')
    for name in ('secret.txt', 'root2/secret.txt', 'outside/secret.txt'):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), 'wb') as f:
            f.write(b'secret\n')
    os.symlink('../outside', root + '/link')            # Wine shows it as a reparse point
    return root, names


def quoted(path):
    return urllib.parse.quote(path)


def digest(data):
    return hashlib.sha256(data).digest()


def whole_folder(server, root, names):
    def some(part):
        client = Client(server, TLS12 if part % 2 else TLS13)
        wrong = []
        for name in names[part::4]:
            status, data = client.get('/' + quoted(name))
            with open(os.path.join(root, name), 'rb') as f:
                if status != 200 or digest(data) != digest(f.read()):
                    wrong.append('%s (%d)' % (name, status))
        client.close()
        return wrong
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        wrong = sum(pool.map(some, range(4)), [])
    say('%d files, byte for byte' % len(names), ' '.join(wrong[:5]))
    client = Client(server)
    with open(root + '/large.bin', 'rb') as f:
        same = digest(client.get('/large.bin')[1]) == digest(f.read())
    say('a file of 32 MiB', '' if same else 'other bytes')
    body = os.urandom(700000)
    say('a body of 700,000 bytes comes back',
        '' if client.get('/echo', 'POST', body) == (200, body) else 'it does not')
    client.close()


def curl(server, folder):
    out = folder + '/curl'
    for version in ('1.2', '1.3'):
        for http in (['-sS'], ['-sS', '--range', '1000-1999']):
            done = subprocess.run(['curl', *http, '-k', '--tlsv' + version, '--tls-max', version,
                                   '-o', out, 'https://localhost:%d/large.bin' % server.port])
            with open(out, 'rb') as f, open(folder + '/root/large.bin', 'rb') as wanted:
                whole = wanted.read()
                same = f.read() == (whole[1000:2000] if len(http) > 1 else whole)
            say('curl, TLS %s %s' % (version, ' '.join(http[1:])),
                '' if same and done.returncode == 0 else 'other bytes')


# What must not be opened: the path as it is sent, percent and all.
HOSTILE = [
    # devices, in any letters and with anything behind them
    'CON', 'con', 'nul', 'NUL.txt', 'aux.html', 'PRN', 'COM1', 'com9.tar.gz', 'LPT1', 'lpt0',
    'COM%C2%B9', 'LPT%C2%B3.txt', 'CONIN$', 'conout$', 'CLOCK$', 'nul%20.txt', 'a/nul', 'a/CON.bin',
    'nul/', 'con/x', 'nul%20', 'nul.',
    # streams
    'large.bin:x', 'large.bin::$DATA', 'large.bin%3A%3A$DATA', 'a:$I30:$INDEX_ALLOCATION/',
    'a::$INDEX_ALLOCATION/deep/er/1.txt', ':x',
    # what the system drops or reads as something else
    'large.bin.', 'large.bin%20', 'large.bin..', 'large.bin%20.', 'a./deep/er/1.txt', 'a%20/x',
    '.../secret.txt', '..%20/secret.txt', '.%20./secret.txt', 'large%3F.bin', 'l*', 'large.bi%3F',
    'large.bi%3C', 'large%3E.bin', '%22large.bin%22', 'large.bin%7C', '%01', 'a%1F', 'a%0Ab',
    # backslashes, drives, servers, and the prefixes of paths
    '%5Csecret.txt', '..%5Csecret.txt', 'a%5Cdeep%5Cer%5C1.txt', 'a%5C..%5C..%5Csecret.txt', '%5C',
    'C:', 'C:/windows/win.ini', 'C%3A%5Cwindows%5Cwin.ini', 'Z:/etc/passwd', 'c:large.bin',
    '%5C%5Cserver%5Cshare%5Cx', '//server/share/x', '%5C%5C?%5CC:%5Cx', '%5C%5C.%5CCON', '//./CON',
    '//%3F/C:/windows/win.ini', '%5C??%5CC:%5C', 'GLOBALROOT/Device/Null',
    # what leads out
    '../secret.txt', '%2e%2e/secret.txt', 'a/../../secret.txt', '..%2fsecret.txt', '../root2/secret.txt',
    'link/secret.txt', 'link', 'link/',
    # no UTF-8, or what would be half of a pair in UTF-16
    '%ED%A0%80', '%ED%B0%80.txt', '%FF', '%C0%AE%C0%AE/secret.txt', '%C0%AFx', 'a%80', '%F4%90%80%80',
    'a%00', 'large.bin%00.txt',
    # a file is no folder; too deep, too long
    'large.bin/', 'large.bin/x', 'no/such', 'a/' * 100, 'a' * 4000, '%C3%A9' * 1300, '/'.join(['a'] * 70),
]


def short_name(wine, path):
    """The short name of a file that has one, as cmd.exe lists it."""
    done = subprocess.run([wine, 'cmd', '/c', 'dir', '/x', 'Z:' + path.replace('/', '\\')],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env=dict(os.environ, WINEDEBUG='-all'))
    found = re.search(rb'(\S+~\S+) +long name', done.stdout)
    return found.group(1).decode() if found else None


def hostile(wine, start, folder, root):
    """Every path is a 404, and the trace of Wine says that no such file was opened."""
    log = folder + '/trace'
    server = start(log)
    client = Client(server)
    for _ in range(2):                                  # whatever begins with the first one
        client.get('/nothing')
        time.sleep(0.5)
    before, begin = server.descriptors(), os.path.getsize(log)
    paths = list(HOSTILE)
    short = short_name(wine, root)
    if short:
        paths.append(short)
    wrong = []
    for path in paths:
        try:
            status, _ = client.get('/' + path)
        except (EOFError, OSError):
            client = Client(server)
            status = 0
        if status not in (404, 400) or (status == 400 and not re.search('%0|[?]|:', path)):
            wrong.append('/%s: %d' % (path[:60], status))
    left = server.descriptors() - before
    if left > 2:
        wrong.append('%d files are still open' % left)
    good = client.get('/large.bin')[0]
    if good != 200:
        wrong.append('/large.bin: %d' % good)
    server.stop()
    say('%d paths that name no file' % len(paths), '; '.join(wrong))
    with open(log, encoding='latin-1') as f:
        opened = set(re.findall(r'CreateFileW L"([^"]*)"', f.read()[begin:]))
    ours = [o for o in opened if 'root' in o]
    below = {o.rpartition('root')[2].replace('\\\\', '/').strip('/"') for o in ours}
    allowed = {'', 'a', 'large.bin', 'a/deep', 'a/deep/er'}
    say('of them nothing is opened', ' '.join(sorted(below - allowed)[:5]) or
        ('' if 'large.bin' in below else 'the trace says nothing: %s' % sorted(opened)[:5]))
    say('a short name' if short else 'a short name: Wine shows none here')


def held(server):
    def come(i):
        client = Client(server, TLS12 if i % 2 else TLS13)
        client.get('/2.bin', 'HEAD')
        return client

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(come, range(HELD)))
    bad = 0
    for client in clients:
        try:
            bad += client.get('/2.bin', 'HEAD')[0] != 200
        except (EOFError, OSError):
            bad += 1
    say('%d connections held' % HELD, '%d are dead' % bad if bad else '')
    for client in clients:
        client.close()


def soak(server, seconds):
    """Handles and memory are back when the clients are gone."""
    def settle():
        for _ in range(40):
            rows = [server.facts() for _ in range(4)]       # of both threads, very likely
            if all(row[0] <= 2 for row in rows):
                break
            time.sleep(0.25)
        return server.descriptors(), max(row[1] for row in rows)

    def work(until):
        n = 0
        while time.monotonic() < until:
            client = Client(server, TLS12 if n % 2 else TLS13)
            for i in range(n % 5):
                client.get('/%d.bin' % (i * 7 + 2))
            if n % 7 == 0:                                  # goes away in the middle
                client.socket.sendall(b'GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n')
            client.close()
            n += 1
        return n

    def run(seconds):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            until = time.monotonic() + seconds
            return sum(pool.map(work, [until] * 4))

    run(min(seconds, 3))
    before = settle()
    count = run(seconds)
    after = settle()
    say('%d connections in %d s: %d descriptors before, %d after; %d bytes, %d' % (
        count, seconds, before[0], after[0], before[1], after[1]),
        'they do not come back' if after[0] > before[0] + 8 or
        after[1] > before[1] * 2 + 200000 else '')


def more_descriptors():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))


def main(wine, program, folder, seconds):
    more_descriptors()
    folder = os.path.abspath(folder)
    root, names = make(folder)
    server = Server(wine, program, 'Z:' + root, folder + '/log')
    whole_folder(server, root, names)
    curl(server, folder)
    held(server)
    soak(server, int(seconds))
    text, code = server.stop()
    say('it closes, and frees all', '' if (text, code) == ('freed', 0) else '%r %d' % (text, code))
    hostile(wine, lambda log: Server(wine, program, 'Z:' + root, log, trace=True), folder, root)
    shutil.rmtree(folder, ignore_errors=True)
    return bool(failed)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
