// Chromium without a window, driven through its DevTools protocol, for the scripts beside this.
'use strict';
const { spawn } = require('child_process');
const fs = require('fs'), os = require('os'), path = require('path');
const WebSocket = require('ws');
const sleep = ms => new Promise(done => setTimeout(done, ms));

// What condition gives as soon as that is something.
async function within(what, condition) {
    for (let i = 0; i < 200; i++, await sleep(100)) {
        const got = await condition();
        if (got) return got;
    }
    throw new Error('never: ' + what);
}

// A WebSocket that keeps what it hears.
function connect(url, ...options) {
    return new Promise((done, failed) => {
        const ws = new WebSocket(url, ...options);
        ws.heard = [];
        ws.on('message', m => ws.heard.push(m.toString()));
        ws.on('open', () => done(ws)).on('error', failed);
    });
}

// One tab: called with an expression, it gives its value, or undefined between two documents, when
// there is nothing to evaluate in; ask(method, parameters) is any other request of the protocol, and
// shut() closes it.
async function tab(debug, address) {
    const made = await (await fetch(`http://127.0.0.1:${debug}/json/new?${address}`, { method: 'PUT' })).json();
    const ws = await connect(made.webSocketDebuggerUrl, { perMessageDeflate: false });
    let id = 0;
    const ask = (method, params) => {
        const mine = ++id;
        ws.send(JSON.stringify({ id: mine, method, params }));
        return within(method + ' ' + JSON.stringify(params),
                      () => ws.heard.map(m => JSON.parse(m)).find(m => m.id === mine));
    };
    const evaluate = expression => ask('Runtime.evaluate', { expression, returnByValue: true })
        .then(answer => answer.result?.result.value);
    evaluate.ask = ask;
    evaluate.shut = () => fetch(`http://127.0.0.1:${debug}/json/close/${made.id}`);
    return evaluate;
}

// use(open), where open(address) gives a tab; afterwards nothing of the browser is left.  With
// trust, a home folder whose certificates it trusts, it looks at certificates as a user's would.
async function browse(chromium, use, trust) {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'chromium-'));
    const child = spawn(chromium, ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
        '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
        '--autoplay-policy=no-user-gesture-required',
        ...(trust ? ['--disable-features=ChromeRootStoreUsed'] : ['--ignore-certificate-errors']),
        '--remote-debugging-port=0', '--user-data-dir=' + home, 'about:blank'],
        { stdio: 'ignore', env: { ...process.env, ...(trust && { HOME: trust }) } });
    try {
        const ready = path.join(home, 'DevToolsActivePort');
        const debug = await within('Chromium starts', () => fs.existsSync(ready) &&
            fs.readFileSync(ready, 'utf8').split('\n')[0]);
        await use(address => tab(debug, address));
    } finally {
        child.kill('SIGKILL');
        await sleep(300);
        fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    }
}

// A script's work, which fails with a line that says why, and does not hang.
function main(work) {
    const watchdog = setTimeout(() => { console.error('too slow'); process.exit(1); }, 90000);
    work.then(() => clearTimeout(watchdog), e => { console.error(e.message || e); process.exit(1); });
}

module.exports = { within, connect, browse, main };
