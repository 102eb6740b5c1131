"""Examples that run under Wine, with clients on this side: see tests/windows.sh.

    examples.py WINE PROGRAMS FOLDER

PROGRAMS is the folder of their .exe files; FOLDER is made anew.  Prints lines that begin with
ok: or FAILED:.
"""
import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import clients
from clients import Client, Program, say


class Example(Program):
    def __init__(self, wine, name, *arguments, port=('--port', '0'), log=None, trace=False, **more):
        self.name = name
        super().__init__(wine, ['%s/%s.exe' % (programs, name), *port, *arguments],
                         log or '%s/%s.log' % (folder, name), trace, **more)

    def curl(self, path, *arguments):
        """(status, body)"""
        url = 'https://localhost:%d%s' % (self.port, path)
        done = subprocess.run(['curl', '-sk', '--max-time', '30', '-w', '\\n%{http_code}', *arguments, url],
                              stdout=subprocess.PIPE)
        body, _, status = done.stdout.rpartition(b'\n')
        return int(status or 0), body

    def end(self, *asked):
        """Each of asked is (what came, what should have come)."""
        wrong = ['%.200r' % (got,) for got, wanted in asked if got != wanted]
        text, code = self.stop()
        say('examples/' + self.name, '; '.join(wrong) or ('' if code == 0 else 'exit status %d' % code))
        return text


# --- serve -------------------------------------------------------------------------------------

def whole_folder(server, root, names):
    """All of it by one curl, byte for byte."""
    out = folder + '/out'
    with open(folder + '/urls', 'w') as f:
        for i, name in enumerate(names):
            f.write('url = "https://localhost:%d/%s"\noutput = "%s/%d"\n' % (
                server.port, clients.quoted(name), out, i))
    os.makedirs(out)
    done = subprocess.run(['curl', '-sSk', '--fail', '-K', folder + '/urls'])
    wrong = []
    for i, name in enumerate(names):
        with open(root + '/' + name, 'rb') as wanted:
            try:
                with open('%s/%d' % (out, i), 'rb') as got:
                    same = got.read() == wanted.read()
            except FileNotFoundError:
                same = os.path.getsize(root + '/' + name) == 0
            if not same:
                wrong.append(name)
    shutil.rmtree(out)
    say('serve: %d files by curl, byte for byte' % len(names),
        ' '.join(wrong[:5]) or ('' if done.returncode == 0 else 'curl: %d' % done.returncode))


def listing(server, root):
    status, page = server.curl('/')
    names = re.findall(rb'<td><a href="([^"]*)"', page)
    there = sorted(os.listdir(root))
    wanted = {clients.quoted(n) + ('/' if os.path.isdir(root + '/' + n) else '')
              for n in there if n != 'link'}            # a link is not shown
    say('serve: a listing', '' if status == 200 and {n.decode() for n in names} == wanted else
        '%d: %.200r' % (status, sorted({n.decode() for n in names} ^ wanted)))
    status, page = server.curl('/a/?sort=-size')
    say('serve: a listing below, by size', '' if status == 200 and b'"../?sort=-size"' in page else
        '%d: %.200r' % (status, page))


def uploads(server, root):
    sent = folder + '/sent'
    with open(sent, 'wb') as f:
        f.write(os.urandom(3000000))
    put = lambda name: server.curl('/a/' + name, '--path-as-is', '-T', sent)[0]
    name = 'new f\u00fc\u4e2d\U0001f600.bin'
    wrong = []
    for wanted in 201, 409:
        status = put(clients.quoted(name))
        if status != wanted:
            wrong.append('%d and not %d' % (status, wanted))
    with open(sent, 'rb') as a, open('%s/a/%s' % (root, name), 'rb') as b:
        if a.read() != b.read():
            wrong.append('other bytes')
    before = sorted(os.listdir(root + '/a'))
    for bad in ('nul', 'CON.txt', 'com1', 'COM%C2%B9', 'x:y', 'x::$DATA', 'x.', 'x%20', 'x%5Cy', '%5Cx',
                '..%5Cx', 'q%3F', 'q*', 'a%22', 'a%3Cb', '%FF', '.hidden', '.upload-1-2', 'a%01'):
        status = put(bad)
        if status not in (400, 404, 507):
            wrong.append('%s: %d' % (bad, status))
    for bad in ('link/x', '../x', 'deep./x', 'deep%20/x', 'deep::$INDEX_ALLOCATION/x', 'nul/x'):
        status = put(bad)
        if status not in (400, 404):
            wrong.append('%s: %d' % (bad, status))
    if sorted(os.listdir(root + '/a')) != before or os.listdir(folder + '/outside') != ['secret.txt']:
        wrong.append('something came that should not: %r' % sorted(os.listdir(root + '/a')))
    # Half a file, and its sender is gone.
    client = Client(server)
    client.socket.sendall(b'PUT /a/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf')
    time.sleep(0.5)
    client.close()
    for _ in range(40):
        left = sorted(os.listdir(root + '/a'))
        if left == before:
            break
        time.sleep(0.25)
    if left != before:
        wrong.append('%r stay' % (set(left) - set(before)))
    say('serve: uploads', '; '.join(wrong))


def serve(wine):
    root, names = clients.make(folder)
    # What another run has left of an upload.
    with open(root + '/b/.upload-1-2', 'wb') as f:
        f.write(b'part')
    arguments = ['serve', '--upload', '100', 'Z:' + root.replace('/', '\\')]
    server = Example(wine, *arguments)
    say('serve: parts of an earlier run go',
        'they stay' if os.path.exists(root + '/b/.upload-1-2') else '')
    listing(server, root)
    whole_folder(server, root, names)
    clients.held(server)
    uploads(server, root)
    text = server.end()
    lines = [l for l in text.split('\n') if ' HTTP/1.1" ' in l]
    form = r'^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "\w+ /'
    say('serve: its log', '' if len(lines) > 3000 and all(re.match(form, l) for l in lines) else
        '%d lines; %.200r' % (len(lines), lines[-1:]))
    clients.hostile(wine, lambda log: Example(wine, *arguments, log=log, trace=True), folder, root)


def local_ca(wine):
    """The CA's folder is made, and nobody else may look into it (Wine shows it as a mode)."""
    ca = folder + '/ca'
    server = Example(wine, 'serve', '--local-ca', 'Z:' + ca, 'Z:%s/root/b' % folder)
    done = subprocess.run(['curl', '-s', '--cacert', ca + '/ca.pem', '-o', folder + '/page', '-w', '%{http_code}',
                           'https://localhost:%d/' % server.port], stdout=subprocess.PIPE)
    modes = {name: oct(os.stat(ca + name).st_mode & 0o7) for name in ('', '/ca.key', '/ca.pem')}
    server.end((done.stdout, b'200'), (set(modes.values()), {'0o0'}))


def free_ports(count):
    free = [socket.socket() for _ in range(count)]
    for s in free:
        s.bind(('127.0.0.1', 0))
    return [s.getsockname()[1] for s in free]


def pebble(api, https):
    """The CA for tests, and the DNS that it asks; its own certificate is that of local_ca."""
    management, dns, dns_management, http = free_ports(4)
    with open(folder + '/pebble.json', 'w') as f:
        json.dump({'pebble': {'listenAddress': '127.0.0.1:%d' % api, 'httpPort': http, 'tlsPort': https,
                              'managementListenAddress': '127.0.0.1:%d' % management, 'ocspResponderURL': '',
                              'certificate': folder + '/ca/localhost.pem',
                              'privateKey': folder + '/ca/localhost.pem'}}, f)
    none = [flag + '=' for flag in ('-http01', '-https01', '-tlsalpn01', '-defaultIPv6')]
    commands = (['pebble-challtestsrv', '-dns01', '127.0.0.1:%d' % dns, *none,
                 '-management', '127.0.0.1:%d' % dns_management],
                ['pebble', '-strict', '-config', folder + '/pebble.json', '-dnsserver', '127.0.0.1:%d' % dns])
    with open(folder + '/pebble.log', 'wb') as log:
        return management, [subprocess.Popen(c, stdout=log, stderr=log,
                                             env=dict(os.environ, PEBBLE_VA_NOSLEEP='1')) for c in commands]


def order(wine, api, management, https):
    directory, own = 'https://localhost:%d/dir' % api, folder + '/root.pem'

    def fetch(url, ca, to):
        """The status"""
        return subprocess.run(['curl', '-s', '--retry', '20', '--retry-connrefused', '--retry-delay', '1', '--cacert',
                               ca, '-o', to, '-w', '%{http_code}', url], stdout=subprocess.PIPE).stdout

    fetch(directory, folder + '/ca/ca.pem', folder + '/page')
    fetch('https://localhost:%d/roots/0' % management, folder + '/ca/ca.pem', own)
    for wanted in b'localhost: a new certificate;', b'localhost: the stored certificate is good;':
        server = Example(wine, 'serve', '--acme', 'localhost', '--acme-directory', directory,
                         '--acme-folder', 'Z:%s/keys' % folder, '--acme-roots', 'Z:%s/ca/ca.pem' % folder,
                         'Z:%s/root/b' % folder, port=('--port', str(https)))
        for _ in range(100):
            with open(server.log, 'rb') as f:
                said = f.read()
            if wanted in said:
                break
            time.sleep(0.2)
        status = fetch('https://localhost:%d/' % https, own, folder + '/page')
        server.end((wanted if wanted in said else said, wanted), (status, b'200'))


def acme(wine):
    """An order of a certificate; who starts again has it still."""
    if not shutil.which('pebble') or not shutil.which('pebble-challtestsrv'):
        print('ok: no pebble here, so nothing is ordered')
        return
    api, https = free_ports(2)
    management, running = pebble(api, https)
    try:
        order(wine, api, management, https)
    finally:
        for program in running:
            program.kill()
            program.wait()


# --- the others --------------------------------------------------------------------------------

def hello(wine):
    server = Example(wine, 'hello', port=())
    server.end((server.curl('/'), (200, b'Hello over HTTPS\n')))


def echo(wine):
    server = Example(wine, 'echo', '--threads', '2')
    body = os.urandom(5000000)
    with open(folder + '/body', 'wb') as f:
        f.write(body)
    send = ['--data-binary', '@%s/body' % folder]
    server.end((server.curl('/'), (200, b'hello\n')),
               (server.curl('/echo', *send) == (200, body), True),
               (server.curl('/echo', '-H', 'Transfer-Encoding: chunked', *send) == (200, body), True),
               (server.curl('/sink', *send), (200, b'5000000\n')),
               (len(server.curl('/bytes/3000000')[1]), 3000000),
               (server.curl('/whoami', '--tls-max', '1.2')[1].startswith(b'version: TLSv1.2\n'), True))


def takers(wine):
    """Those that store what comes."""
    drop = folder + '/drop'
    for name, arguments, port, ask in (
            ('upload', ['Z:' + drop], ('--port', '0'), ['-T', folder + '/body']),
            ('form', ['Z:' + drop], ('--port', '0'), ['-F', 'name=Ann', '-F', 'message=hello', '-F',
                                                     'files=@%s/body;filename=../\u00fc:x.bin' % folder]),
            ('filedrop', [], ('Z:' + drop, '8449'), ['-T', folder + '/body'])):
        shutil.rmtree(drop, ignore_errors=True)
        os.makedirs(drop)
        server = Example(wine, name, *arguments, port=port)
        path = '/' if name == 'form' else '/body.bin'
        status = server.curl(path, *ask)[0]
        with open(folder + '/body', 'rb') as f:
            sent = f.read()
        found = []
        for at, _, files in os.walk(drop):
            for file in files:
                with open(os.path.join(at, file), 'rb') as f:
                    found.append((os.path.relpath(os.path.join(at, file), drop), f.read()))
        names = [n for n, data in found if data == sent]
        more = []
        if name == 'upload':
            more = [(server.curl('/nul', '-T', folder + '/body')[0], 400), (names, ['body.bin'])]
        elif name == 'form':
            more = [(len(found), 4), (names[0].endswith('_x.bin'), True)]  # with a lock
        else:
            more = [(server.curl('/' + names[0]), (200, sent)), (names[0].encode() in server.curl('/')[1], True)]
        server.end((status // 100, 2), (len(names), 1), *more)
    server = Example(wine, 'webhook', 'Z:%s/events.jsonl' % folder, '8449', port=(),
                     WEBHOOK_SECRET='0123456789abcdef')
    event = b'{"a":\n1}'
    mac = hmac.new(b'0123456789abcdef', event, hashlib.sha256).hexdigest()
    ask = ['-H', 'Content-Type: application/json', '--data-binary', event.decode(), '-H']
    asked = [(server.curl('/hook', *ask, 'X-Hub-Signature-256: sha256=' + mac)[0], 204)] * 1 + \
        [(server.curl('/hook', *ask, 'X-Hub-Signature-256: sha256=' + 'a' * 64)[0], 403)]
    with open(folder + '/events.jsonl', 'rb') as f:
        asked.append((f.read(), b'{"a": 1}\n'))
    server.end(*asked)


def websocket(server):
    """The first message that comes."""
    client = Client(server)
    client.socket.sendall(b'GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n'
                          b'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
                          b'Sec-WebSocket-Key: ' + base64.b64encode(b'0' * 16) + b'\r\n\r\n')
    status = client.file.readline()
    while client.file.readline().strip():
        pass
    length = client.file.read(2)[1]
    text = client.file.read(length)
    client.close()
    return int(status.split()[1]), text


def shout(server):
    client = Client(server)
    client.socket.sendall(b'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nhi\n')
    status = client.file.readline()
    while client.file.readline().strip():
        pass
    text = client.file.readline()
    client.socket.sendall(b'quit\n')
    rest = client.file.read()
    client.close()
    return int(status.split()[1]), text, rest


def others(wine):
    server = Example(wine, 'api', NOTES_LOGIN='ann:secret')
    login = ['-u', 'ann:secret']
    server.end((server.curl('/notes')[0], 401),
               (server.curl('/notes', *login, '--json', '{"text":"milk"}')[0], 201),
               (server.curl('/notes', *login), (200, b'[{"id":1,"text":"milk"}]\n')))
    server = Example(wine, 'chat')
    server.end((server.curl('/')[0], 200), (websocket(server), (101, b'1 here')))
    server = Example(wine, 'upgrade')
    server.end((shout(server), (101, b'HI\n', b'')))
    server = Example(wine, 'embedded')
    server.end((server.curl('/')[0], 200), (server.curl('/', '-r', '0-8'), (206, b'<!DOCTYPE')))
    server = Example(wine, 'dashboard', port=('8449',), DASHBOARD_PASSWORD='x')
    server.end((server.curl('/')[0], 200), (server.curl('/events')[0], 403))
    server = Example(wine, 'stream')
    server.end((server.curl('/events', '--max-time', '2')[1][:5], b'data:'))
    server = Example(wine, 'deferred', '--threads', '2')
    server.end((server.curl('/primes'), (200, b'148933 primes below 2000000\n')))
    server = Example(wine, 'threads', '--threads', '2')
    server.end((server.curl('/')[1][:6], b'thread'))
    server = Example(wine, 'redirect', '--plain-port', '8450')
    done = subprocess.run(['curl', '-skL', 'http://localhost:8450/'], stdout=subprocess.PIPE)
    server.end((done.stdout, b'secure\n'))
    server = Example(wine, 'sni', 'www.example.org', 'tests/data/server-www.pem', 'tests/data/server-www.key')
    to = ['--connect-to', 'www.example.org::localhost:%d' % server.port, '--cacert', 'tests/data/ca.pem']
    done = subprocess.run(['curl', '-s', *to, 'https://www.example.org/'], stdout=subprocess.PIPE)
    server.end((done.stdout, b'this is www.example.org\n'))
    server = Example(wine, 'client_cert', '--client-ca', 'tests/data/ca.pem')
    mine = ['--cert', 'tests/data/client-p256.pem', '--key', 'tests/data/client-p256.key']
    server.end((server.curl('/private')[0], 403), (server.curl('/private', *mine)[0], 200))


def graceful(wine):
    """Ctrl-C while an answer is being made: it still comes."""
    server = Example(wine, 'graceful')
    asking = subprocess.Popen(['curl', '-sk', 'https://localhost:%d/' % server.port], stdout=subprocess.PIPE)
    time.sleep(1.5)
    text, code = server.stop()
    said = asking.communicate()[0]
    say('examples/graceful', '' if code == 0 and said == b'here it is, after three seconds\n' else
        '%d: %r' % (code, said))


def main(wine, programs_folder, work):
    global programs, folder
    clients.more_descriptors()
    programs, folder = programs_folder, os.path.abspath(work)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    serve(wine)
    local_ca(wine)
    acme(wine)
    hello(wine)
    echo(wine)
    takers(wine)
    others(wine)
    graceful(wine)
    shutil.rmtree(folder, ignore_errors=True)
    return bool(clients.failed)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
