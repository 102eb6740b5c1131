# Two members of examples/chat, on python3-websockets: websocket.py PORT
import asyncio, ssl, sys
import websockets

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
url = "wss://localhost:%s/chat" % sys.argv[1]


async def member():
    return await websockets.connect(url, ssl=context, subprotocols=["chat.v1"], open_timeout=10)


async def until(ws, text):
    while (got := await asyncio.wait_for(ws.recv(), 10)) != text:
        print("   (" + repr(got) + ")")


async def main():
    ann, bob = await member(), await member()
    assert ann.subprotocol == "chat.v1"
    await until(ann, "2 here")
    await ann.send("ann\nhello \u00e4\u20ac\U0001f600")
    await until(bob, "ann\nhello \u00e4\u20ac\U0001f600")
    await bob.send(["bob\n", "in ", "three parts"])     # fragments of one message
    await until(ann, "bob\nin three parts")
    await asyncio.wait_for(await ann.ping(b"are you there"), 10)
    await bob.send("no line feed")                      # against the rules of the room
    try:
        while True:
            await asyncio.wait_for(bob.recv(), 10)
    except websockets.ConnectionClosed as end:
        assert end.code == 1003, end
    await ann.close(code=1000)
    assert ann.close_code == 1000


asyncio.run(main())
print("ok: python3-websockets")
