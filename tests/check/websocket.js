// A member of examples/chat on node-ws, then three tabs of its page in Chromium:
// websocket.js PORT [chromium]
'use strict';
const { within, connect, browse, main } = require('./chromium.js');
const port = process.argv[2], chromium = process.argv[3];

async function node() {
    const options = [['chat.v1'], { rejectUnauthorized: false, perMessageDeflate: true }];
    const url = `wss://localhost:${port}/chat`;
    const ann = await connect(url, ...options), bob = await connect(url, ...options);
    if (ann.extensions !== '') throw new Error('an extension was agreed upon');
    ann.send('ann\n' + 'x'.repeat(4000));
    await within('the message', () => bob.heard.includes('ann\n' + 'x'.repeat(4000)));
    const code = new Promise(done => ann.on('close', done));
    ann.send('ann\n' + 'x'.repeat(5000));                 // over the room's limit
    if (await code !== 1009) throw new Error('closed with another code than 1009');
    bob.close();
    console.log('ok: node-ws');
}

async function three_tabs(open) {
    const page = `https://localhost:${port}/`;
    const ann = await open(page), bob = await open(page), carl = await open(page);
    const all = (tabs, text) => within('all tabs show ' + text, async () => {
        for (const who of tabs)
            if (await who('document.getElementById("state")?.textContent') !== text) return false;
        return true;
    });
    await all([ann, bob, carl], '3 here');
    await ann(`document.getElementById('name').value = 'ann';
        document.getElementById('text').value = '<b>hello</b> \\u20ac';
        document.getElementById('form').requestSubmit()`);
    for (const [who, mine] of [[ann, 'mine'], [bob, ''], [carl, '']])
        await within('the message is shown', async () =>
            (await who('document.querySelector("#log li")?.innerText')) === 'ann\n<b>hello</b> \u20ac' ||
            (await who('document.querySelector("#log li")?.lastChild.data')) === '<b>hello</b> \u20ac' &&
            (await who('document.querySelector("#log li").className')) === mine);
    await carl.shut();
    await all([ann, bob], '2 here');
    console.log('ok: three tabs of the page in Chromium');
}

main(node().then(() => chromium && browse(chromium, three_tabs)));
