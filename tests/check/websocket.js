// A member of examples/chat on node-ws, then three tabs of its page in Chromium, which is
// driven through its DevTools protocol: websocket.js PORT [chromium]
'use strict';
const { spawn } = require('child_process');
const fs = require('fs'), os = require('os'), path = require('path');
const WebSocket = require('ws');
const port = process.argv[2], chromium = process.argv[3];
const sleep = ms => new Promise(done => setTimeout(done, ms));

async function within(what, condition) {
    for (let i = 0; i < 200; i++, await sleep(100)) {
        const got = await condition();
        if (got) return got;
    }
    throw new Error('never: ' + what);
}

function connect(url, options) {
    return new Promise((done, failed) => {
        const ws = new WebSocket(url, ...options);
        ws.heard = [];
        ws.on('message', m => ws.heard.push(m.toString()));
        ws.on('open', () => done(ws)).on('error', failed);
    });
}

async function node() {
    const options = [['chat.v1'], { rejectUnauthorized: false, perMessageDeflate: true }];
    const url = `wss://localhost:${port}/chat`;
    const ann = await connect(url, options), bob = await connect(url, options);
    if (ann.extensions !== '') throw new Error('an extension was agreed upon');
    ann.send('ann\n' + 'x'.repeat(4000));
    await within('the message', () => bob.heard.includes('ann\n' + 'x'.repeat(4000)));
    const code = new Promise(done => ann.on('close', done));
    ann.send('ann\n' + 'x'.repeat(5000));                 // over the room's limit
    if (await code !== 1009) throw new Error('closed with another code than 1009');
    bob.close();
    console.log('ok: node-ws');
}

// One tab: called with an expression, it gives its value; shut() closes it.
async function tab(debug, address) {
    const made = await (await fetch(`http://127.0.0.1:${debug}/json/new?${address}`, { method: 'PUT' })).json();
    const ws = await connect(made.webSocketDebuggerUrl, [{ perMessageDeflate: false }]);
    let id = 0;
    const evaluate = expression => {
        const mine = ++id;
        ws.send(JSON.stringify({ id: mine, method: 'Runtime.evaluate', params: { expression, returnByValue: true } }));
        return within(expression, () => {
            const answer = ws.heard.map(m => JSON.parse(m)).find(m => m.id === mine);
            return answer && { value: answer.result.result.value };
        }).then(r => r.value);
    };
    evaluate.shut = () => fetch(`http://127.0.0.1:${debug}/json/close/${made.id}`);
    return evaluate;
}

async function browser() {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'chat-'));
    const child = spawn(chromium, ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
        '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
        '--ignore-certificate-errors', '--remote-debugging-port=0', '--user-data-dir=' + home, 'about:blank'],
        { stdio: 'ignore' });
    try {
        const ready = path.join(home, 'DevToolsActivePort');
        const debug = await within('Chromium starts', () => fs.existsSync(ready) &&
            fs.readFileSync(ready, 'utf8').split('\n')[0]);
        const page = `https://localhost:${port}/`;
        const ann = await tab(debug, page), bob = await tab(debug, page), carl = await tab(debug, page);
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
    } finally {
        child.kill('SIGKILL');
        await sleep(300);
        fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    }
}

const watchdog = setTimeout(() => { console.error('too slow'); process.exit(1); }, 90000);
node().then(() => chromium && browser()).then(() => clearTimeout(watchdog),
    e => { console.error(e.message || e); process.exit(1); });
