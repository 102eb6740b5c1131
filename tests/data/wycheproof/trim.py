#!/usr/bin/env python3
"""usage: trim.py WYCHEPROOF   (a checkout of C2SP/wycheproof)

Makes the .txt files beside it of WYCHEPROOF/testvectors_v1: of each group at most MOST cases
with the same flags and result (of RSASSA-PSS all for one key, and FEW for others), without what
our code cannot be asked.  A line is one case:
its number, its result, and its values in hex ("-": empty), in the order of the first line."""
import json
import os
import sys

MOST, FEW = 24, 8
HERE = os.path.dirname(os.path.abspath(__file__))
source = os.path.join(sys.argv[1], "testvectors_v1")


def cases(name, wanted=lambda group: True, most=MOST):
    with open(os.path.join(source, name + "_test.json")) as f:
        groups = json.load(f)["testGroups"]
    for group in filter(wanted, groups):
        seen = {}
        for test in group["tests"]:
            kind = (test["result"], tuple(sorted(test["flags"])))
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] <= most:
                yield group, test


def line(*values):
    return " ".join(str(value) if value != "" else "-" for value in values) + "\n"


def write(name, head, lines):
    with open(os.path.join(HERE, name + ".txt"), "w") as f:
        f.write("# " + head + "\n")
        f.writelines(lines)


def secrets(name):
    return [line(t["tcId"], t["result"], t["private"], t["public"], t["shared"])
            for _, t in cases(name)]


def signatures(name):
    last = None
    for group, t in cases("rsa_pss_" + name, most=1000 if name == "2048_sha256_mgf1_32" else FEW):
        key = group["publicKey"]
        if key != last:
            yield line("key", group["sha"].replace("-", ""), group["mgfSha"].replace("-", ""),
                       group["sLen"], key["modulus"], key["publicExponent"])
        last = key
        yield line(t["tcId"], t["result"], t["msg"], t["sig"])


def macs(name, size):
    return [line(size, t["tcId"], t["result"], t["key"], t["msg"], t["tag"])
            for _, t in cases(name, lambda group: group["tagSize"] == size)]


def records(cipher, name):
    return [line(cipher, t["tcId"], t["result"], t["key"], t["iv"], t["aad"], t["msg"], t["ct"],
                 t["tag"])
            for _, t in cases(name, lambda group: group["ivSize"] == 96 and
                              group["tagSize"] == 128 and group["keySize"] != 192)
            if len(t["msg"]) <= 1200]


write("x25519", "case result private public shared", secrets("x25519"))
write("ecdh_p256", "case result private public shared", secrets("ecdh_secp256r1_ecpoint"))
write("rsa_pss", "key sha mgf salt modulus exponent, then its cases: case result message signature",
      [part for name in ("2048_sha256_mgf1_32", "2048_sha384_mgf1_48", "3072_sha256_mgf1_32",
                         "4096_sha512_mgf1_64", "2048_sha256_mgf1sha1_20")
       for part in signatures(name)])
write("hmac", "bits case result key message tag",
      macs("hmac_sha256", 256) + macs("hmac_sha384", 384))
write("aead", "cipher case result key nonce aad message ciphertext tag",
      records("gcm", "aes_gcm") + records("chacha", "chacha20_poly1305"))
