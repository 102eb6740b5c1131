"""What is measured of a server: each function takes its samples once, and run.py calls them in turn.

Times are CPU time of the server, user and system, in microseconds if nothing else is said.
"""
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from servers import DOWNLOAD, OUT, RARE, Failed, Held, Server

QUICK = 10 if os.environ.get('QUICK') else 1    # everything is so many times smaller
FULL, RESUMED, MIXED = 400 // QUICK, 1500 // QUICK, 500 // QUICK    # handshakes of one sample
DOWNLOADS = 4 // QUICK or 1                 # files of DOWNLOAD bytes
IDLE = 1000 // QUICK                        # connections
MESSAGE = 'sixty bytes, which is about what the member of a chat says.'   # of a WebSocket
SUITES = ['--ciphers', 'ECDHE-ECDSA-AES128-GCM-SHA256', '--tls13-ciphers', 'TLS_AES_128_GCM_SHA256']

# For clients that cannot be told: the suites that the others use.
OPENSSL_CONF = '''openssl_conf = all
[all]
ssl_conf = programs
[programs]
system_default = suites
[suites]
CipherString = ECDHE-ECDSA-AES128-GCM-SHA256
Ciphersuites = TLS_AES_128_GCM_SHA256
'''


def prepare():
    """What the servers and clients need besides their programs."""
    os.makedirs(f'{OUT}/www/bytes', exist_ok=True)
    with open(f'{OUT}/openssl.cnf', 'w', encoding='ascii') as file:
        file.write(OPENSSL_CONF)
    with open(f'{OUT}/www/hello.txt', 'w', encoding='ascii') as file:
        file.write('hello\n')
    with open(f'{OUT}/www/bytes/{DOWNLOAD}', 'wb') as file:
        for _ in range(DOWNLOAD >> 20):
            file.write(bytes(1 << 20))


# --- one server -----------------------------------------------------------------------------

def handshakes(server, mode, count):
    """One after the other.  Of RARE servers fewer: with some of them each takes as long as a
    delayed acknowledgement."""
    count //= 4 if server.kind in RARE else 1
    before = server.cpu()
    server.client(mode, count)
    return (server.cpu() - before) / count


def full(server):
    return handshakes(server, 'full', FULL)


def resumed(server):
    """In TLS 1.3 with a request each: its answer brings the next ticket."""
    return handshakes(server, 'resumed', RESUMED)


def mix(server):
    """Connections with a request each, of which 80 % resume."""
    return handshakes(server, 'mix', MIXED)


def load(server, connections, seconds):
    """Requests that wrk made, and how many a second."""
    done = subprocess.run(['wrk', '-t', '1', '--timeout', '30s', '-c', str(connections), '-d', str(seconds),
                           f'https://127.0.0.1:{server.port}/'], capture_output=True, text=True, check=False,
                          env={**os.environ, 'OPENSSL_CONF': f'{os.getcwd()}/{OUT}/openssl.cnf'})
    requests = re.search(r'(\d+) requests in', done.stdout)
    rate = re.search(r'Requests/sec: +([\d.]+)', done.stdout)
    if not requests or not rate or 'Socket errors' in done.stdout or 'Non-2xx' in done.stdout:
        raise Failed(f'wrk and {server.name}: {done.stdout}{done.stderr}')
    return int(requests[1]), float(rate[1])


def keep_alive(server, handshake, seconds=2):
    """A request of 64 connections that are kept alive; the part of it outside the kernel; and
    requests a second.  The handshakes are taken off, as each was just measured."""
    before, before_user = server.cpu(), server.user()
    requests, rate = load(server, 64, seconds)
    taken, taken_user = server.cpu() - before, server.user() - before_user
    return (taken - 64 * handshake) / requests, (taken_user - 64 * handshake) / requests, rate


def side_by_side(servers, handshake, seconds=2):
    """A request where two servers that share nothing work at once, with half of the connections each."""
    before = sum(server.cpu() for server in servers)
    with ThreadPoolExecutor() as pool:
        loads = list(pool.map(lambda server: load(server, 32, seconds)[0], servers))
    return (sum(server.cpu() for server in servers) - before - 64 * handshake) / sum(loads)


def one_connection(server):
    return load(server, 1, 1)[1]


def thousand_connections(server):
    """After the second second: in the first, they shake hands."""
    few, _ = load(server, 1000, 2)
    many, _ = load(server, 1000, 4)
    return (many - few) / 2


def bulk(server):
    """Milliseconds for a GB."""
    before = server.cpu()
    for _ in range(DOWNLOADS):
        subprocess.run(['curl', '-s', '--insecure', '--fail', f'--tlsv{server.version}', '--tls-max',
                        server.version, *SUITES, '-o', '/dev/null',
                        f'https://127.0.0.1:{server.port}/bytes/{DOWNLOAD}'], check=True)
    return (server.cpu() - before) / 1000 / (DOWNLOADS * DOWNLOAD / 1e9)


def idle(kind, version):
    """Resident bytes of a connection, in a process that has answered only one request before."""
    with Server(kind, version) as server:
        before = server.resident()
        with Held(server, 'idle', IDLE):
            return (server.resident() - before) / IDLE


def two_clients(server):
    """Full handshakes a second, with two clients at a time; and what each costs."""
    command = [f'{OUT}/client', server.version, 'full', str(server.port), str(FULL)]
    before, since = server.cpu(), time.monotonic()
    clients = [subprocess.Popen(command) for _ in range(2)]
    if any([client.wait() for client in clients]):
        raise Failed(f'{server.name}: handshakes of two clients')
    return 2 * FULL / (time.monotonic() - since), (server.cpu() - before) / (2 * FULL)


# --- many connections ------------------------------------------------------------------------

def meminfo(name):
    """A line of /proc/meminfo, in bytes."""
    with open('/proc/meminfo', encoding='ascii') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ':'))


def available_bytes():
    return meminfo('MemAvailable')


def kernel_bytes():
    """What the kernel has for objects (of both ends of each connection) and for TCP's buffers."""
    with open('/proc/net/sockstat', encoding='ascii') as file:
        pages = int(re.search(r'^TCP:.* mem (\d+)', file.read(), re.M)[1])
    return meminfo('Slab') + pages * os.sysconf('SC_PAGE_SIZE')


def crowd(kind, version, mode, count, rounds):
    """Two servers of a kind, of which one holds idle connections.  Returns bytes resident and in
    the kernel of each, connections accepted in a second, and the rates of 64 active connections
    without and beside them, one for each round."""
    alone, beside = [], []
    with Server(kind, version, connections=count + 2000) as quiet, \
         Server(kind, version, connections=count + 2000) as full_one:
        resident, kernel = full_one.resident(), kernel_bytes()
        with Held(full_one, mode, count) as held:
            resident, kernel = full_one.resident() - resident, kernel_bytes() - kernel
            for _ in range(rounds):
                alone.append(load(quiet, 64, 1)[1])
                beside.append(load(full_one, 64, 1)[1])
    return {'resident': resident / count, 'kernel': kernel / count, 'accepts': count / held.seconds,
            'alone': alone, 'beside': beside}


def members(version, count, messages):
    """A message to all members of a WebSocket: CPU for each member, once a message; and what a
    member takes, resident."""
    costs = []
    with Server('members', version) as server:
        resident = server.resident()
        with Held(server, 'members', count) as room:
            resident = server.resident() - resident
            room.say(MESSAGE)
            for _ in range(messages):
                before = server.cpu()
                room.say(MESSAGE)
                costs.append((server.cpu() - before) / count)
    return costs, resident / count


# --- uploads ---------------------------------------------------------------------------------

def make_upload(kind, megabytes):
    """A file, and the same file as the only part of a form."""
    line = b'a line of text, as they are in logs and tables, with CR LF\r\n'
    block = os.urandom(1 << 20) if kind == 'random' else (line * (1 + (1 << 20) // len(line)))[:1 << 20]
    with open(f'{OUT}/large', 'wb') as plain, open(f'{OUT}/large.form', 'wb') as form:
        form.write(b'--B\r\nContent-Disposition: form-data; name="f"; filename="large"\r\n\r\n')
        for i in range(megabytes):
            plain.write(block[i:] + block[:i])
            form.write(block[i:] + block[:i])
        form.write(b'\r\n--B--\r\n')


def upload(file, url, *arguments):
    """Megabytes a second, as curl sees it; it sends the file as it is."""
    done = subprocess.run(['curl', '-sk', '--fail', '-m', '120', '-o', '/dev/null', '-w', '%{time_total}',
                           '-H', 'Expect:', *arguments, '-T', file, url],
                          check=True, capture_output=True, text=True)
    return os.path.getsize(file) / 1e6 / float(done.stdout)


def forms(kind, scheme, megabytes, rounds):
    """The large file by PUT, and as a part of a form."""
    make_upload(kind, megabytes)
    plain, form = [], []
    with Server('forms', '1.3') as server:
        url = f'{scheme}://127.0.0.1:{server.port + (scheme == "http")}/'
        for _ in range(rounds):
            plain.append(upload(f'{OUT}/large', url))
            form.append(upload(f'{OUT}/large.form', url, '-X', 'POST', '-H',
                               'Content-Type: multipart/form-data; boundary=B'))
    for name in 'large', 'large.form':
        os.unlink(f'{OUT}/{name}')
    return plain, form
