# usage: client.py PORT VERSION CA [CERT KEY]: two connections, the second one resumes.
import socket
import ssl
import sys

port, version, ca = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = \
    ssl.TLSVersion.TLSv1_3 if version == "1.3" else ssl.TLSVersion.TLSv1_2
if len(sys.argv) > 4:
    context.load_cert_chain(sys.argv[4], sys.argv[5])
session = None
for _ in range(2):
    with socket.create_connection(("127.0.0.1", port)) as s:
        with context.wrap_socket(s, server_hostname="localhost", session=session) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: tls.recv(4096), b""))
            session = tls.session
            print(answer.decode().split("\r\n\r\n")[1], end="")
