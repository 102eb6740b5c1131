"""Forms as curl -F and Python's requests send them, to the server of forms.c: forms.py PORT"""
import os
import subprocess
import sys
import tempfile
from urllib.parse import quote

port = int(sys.argv[1])
ADDRESSES = f"https://127.0.0.1:{port}/", f"http://127.0.0.1:{port + 1}/kept"
TRICKY = b"\r\n--\r\n--------------------------\r\n\r\r\n-\n\0\r"
LARGE = b"0123456789abcdef\r\n" * 150000


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def line(name, file, kind, data):
    texts = (("-" if t is None else quote(t, safe="")) for t in (name, file, kind))
    return " ".join(texts) + f" {len(data)} {fnv(data)}\n"


def check(who, got, parts):
    wanted = "".join(line(*p) for p in parts)
    if got != wanted:
        sys.exit(f"{who}: got\n{got}wanted\n{wanted}")


def with_curl(folder):
    odd = os.path.join(folder, 'odd "q" \\b;,ä.txt')
    for path, data in ((odd, TRICKY), (f"{folder}/large.bin", LARGE), (f"{folder}/empty", b"")):
        with open(path, "wb") as f:
            f.write(data)
    quoted = odd.replace("\\", "\\\\").replace('"', '\\"')
    parts = [
        ("plain", None, None, b"value"),
        ('a "q"\\', None, None, b"two\nlines"),
        ("typed", None, "text/x; charset=utf-8", b"1"),
        ("odd", 'odd "q" \\b;,ä.txt', "text/plain", TRICKY),
        ("large", "C:\\large", "application/octet-stream", LARGE),
        ("empty", "empty", "application/octet-stream", b""),
    ]
    words = ["-F", "plain=value", "-F", 'a "q"\\=two\nlines', "-F", "typed=1;type=text/x; charset=utf-8",
             "-F", f'odd=@"{quoted}"', "-F", f'large=@{folder}/large.bin;filename="C:\\\\large"',
             "-F", f"empty=@{folder}/empty"]
    for at in ADDRESSES:
        for more in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
            got = subprocess.run(["curl", "-sk", "-m", "20", *more, *words, at], stdout=subprocess.PIPE,
                                 check=True).stdout.decode()
            check("curl -F", got, parts)
    # The older way to write a quote is no form: a backslash is a backslash.
    status = subprocess.run(["curl", "-sk", "-m", "20", "-o", os.devnull, "-w", "%{http_code}", "--form-escape",
                             "-F", 'a "q"=1', ADDRESSES[0]], stdout=subprocess.PIPE, check=True).stdout
    if status != b"400":
        sys.exit(f"curl --form-escape: {status}")
    print("ok: curl -F")


def with_requests():
    try:
        import requests
        import urllib3
    except ImportError:
        print("skipped: no python3-requests")
        return
    urllib3.disable_warnings()
    # Before 2.0 urllib3 doubled backslashes, which no browser does and nobody can tell from two.
    slash = "\\" if int(urllib3.__version__.split(".")[0]) >= 2 else "\\\\"
    files = [("odd", ('odd "q" \\b;ä.txt', TRICKY, "text/x-odd")), ("large", ("large.bin", LARGE)),
             ("empty", ("empty", b""))]
    parts = [("plain", None, None, b"value"), ('a "q"', None, None, "日本\n".encode()),
             ("odd", f'odd "q" {slash}b;ä.txt', "text/x-odd", TRICKY), ("large", "large.bin", None, LARGE),
             ("empty", "empty", None, b"")]
    for at in ADDRESSES:
        answer = requests.post(at, data={"plain": "value", 'a "q"': "日本\n"}, files=files, verify=False, timeout=20)
        check("requests", answer.text, parts)
    print(f"ok: requests {requests.__version__}")


with tempfile.TemporaryDirectory() as place:
    with_curl(place)
with_requests()
