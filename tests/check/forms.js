// Forms as Node's fetch, Chromium and Firefox send them, to the server of forms.c:
// forms.js PORT [chromium] [firefox]
'use strict';
const { spawn } = require('child_process');
const fs = require('fs'), net = require('net'), os = require('os'), path = require('path');
const { within, browse, main } = require('./chromium.js');
const port = Number(process.argv[2]), chromium = process.argv[3], firefox = process.argv[4];
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
process.removeAllListeners('warning');

// What each of them has to send: [name, file name, type, text]; no file name: a field.
const tricky = '\r\n--\r\n------WebKitFormBoundary\r\n\r\r\n-\n\0\r';
const octets = 'application/octet-stream';
const entries = [
    ['plain', null, null, 'value'],
    ['a "quoted"\nname', null, null, 'two\nlines'],
    ['ün\\ï', null, null, '日本 \\ " %22'],
    ['no value', null, null, ''],
    ['chosen', 'odd "q" \\back;%22 ä 日本 C:\\x\\', 'text/x-odd', tricky],
    ['chosen', 'large.bin', null, '0123456789abcdef\r\n'.repeat(150000)],
    ['chosen', 'empty', null, ''],
    ['none', '', null, ''],                     // an input of files, where none was chosen
];

function fnv(bytes) {
    let hi = 0xcbf29ce4, lo = 0x84222325;       // times 0x100000001b3, in halves
    for (const b of bytes) {
        lo = (lo ^ b) >>> 0;
        const low = lo * 0x1b3;
        hi = (Math.imul(hi, 0x1b3) + Math.floor(low / 4294967296) + (lo << 8)) >>> 0;
        lo = low >>> 0;
    }
    return hi.toString(16).padStart(8, '0') + lo.toString(16).padStart(8, '0');
}

const crlf = text => text.replace(/\r\n|\r|\n/g, '\r\n');
const percent = text => encodeURIComponent(text).replace(/[!'()*]/g,
    c => '%' + c.charCodeAt(0).toString(16).toUpperCase());

// The line that the server answers with.  HTML Standard: newlines of names and fields are CR LF; a
// file's %22 cannot be told from its quotes.
function line([name, file, type, text]) {
    const bytes = Buffer.from(file === null ? crlf(text) : text);
    const names = file === null ? '- -' : `${percent(file.replaceAll('%22', '"'))} ${percent(type || octets)}`;
    return `${percent(crlf(name))} ${names} ${bytes.length} ${fnv(bytes)}\n`;
}

function check(who, got, wanted) {
    const lines = wanted.map(line).join('');
    if (got.trim() !== lines.replaceAll(' \n', '\n').trim())
        throw new Error(`${who}: got\n${got}wanted\n${lines}`);
}

async function withFetch(who) {
    for (const url of [`https://127.0.0.1:${port}/`, `http://127.0.0.1:${port + 1}/kept`]) {
        const form = new FormData(), sent = entries.filter(e => e[1] !== '');
        for (const [name, file, type, text] of sent)
            file === null ? form.append(name, text) : form.append(name, new File([text], file, { type: type || '' }));
        check(who, await (await fetch(url, { method: 'POST', body: form })).text(), sent);
    }
    console.log(`ok: ${who}`);
}

// In a page: a form whose inputs are filled in, and which is sent as a user sends it.
const send = action => `(() => {
    const form = document.createElement('form'), inputs = {};
    form.method = 'post';
    form.enctype = 'multipart/form-data';
    form.action = '${action}';
    for (const [name, file, type, text] of ${JSON.stringify(entries)}) {
        if (file === null) {
            const area = document.createElement('textarea');
            area.name = name;
            area.value = text;
            form.append(area);
            continue;
        }
        const input = inputs[name] ??= document.createElement('input'), all = new DataTransfer();
        input.name = name;
        input.type = 'file';
        input.multiple = true;
        for (const f of input.files) all.items.add(f);
        if (file) all.items.add(new File([text], file, { type: type || '' }));
        input.files = all.files;
        form.append(input);
    }
    document.body.append(form);
    form.submit();
})()`;

// page(expression) gives its value, open(url) a page.
async function inBrowser(who, open) {
    for (const [at, action] of [[`https://127.0.0.1:${port}/`, '/'], [`http://127.0.0.1:${port + 1}/`, '/kept']]) {
        const page = await open(at);
        await within('the page is there', () => page('document.title === "form"'));
        await page(send(action));
        const got = await within('the answer is there', async () => {
            const text = await page('document.body?.innerText');
            return text?.includes('none ') && text;
        });
        check(who, got, entries);
    }
    console.log(`ok: ${who}`);
}

// Firefox without a window, through its Marionette protocol: LENGTH:[0, id, command, parameters].
async function browseFirefox(binary, use) {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'firefox-'));
    fs.writeFileSync(path.join(home, 'user.js'), 'user_pref("marionette.port", 0);\n' +
        'user_pref("network.captive-portal-service.enabled", false);\n' +
        'user_pref("network.connectivity-service.enabled", false);\n' +
        'user_pref("browser.safebrowsing.downloads.remote.enabled", false);\n' +
        'user_pref("app.update.enabled", false);\nuser_pref("services.settings.server", "data:,#");\n' +
        'user_pref("app.normandy.enabled", false);\nuser_pref("datareporting.policy.dataSubmissionEnabled", false);\n');
    const child = spawn(binary, ['--headless', '--no-remote', '--marionette', '--profile', home],
        { stdio: 'ignore', detached: true, env: { ...process.env, HOME: home } });
    try {
        const ready = path.join(home, 'MarionetteActivePort');
        const at = await within('Firefox starts', () => fs.existsSync(ready) && fs.readFileSync(ready, 'utf8'));
        const socket = net.connect(Number(at), '127.0.0.1'), heard = [];
        let buffer = Buffer.alloc(0), id = 0;
        socket.on('data', data => {
            buffer = Buffer.concat([buffer, data]);
            for (;;) {
                const colon = buffer.indexOf(':'), len = Number(buffer.subarray(0, Math.max(colon, 0)));
                if (colon < 0 || buffer.length < colon + 1 + len) return;
                heard.push(JSON.parse(buffer.subarray(colon + 1, colon + 1 + len)));
                buffer = buffer.subarray(colon + 1 + len);
            }
        });
        const ask = async (command, parameters) => {
            const mine = ++id, text = Buffer.from(JSON.stringify([0, mine, command, parameters]));
            socket.write(Buffer.concat([Buffer.from(`${text.length}:`), text]));
            const answer = await within(command, () => heard.find(m => Array.isArray(m) && m[1] === mine));
            return answer[2] ? undefined : answer[3]?.value;
        };
        await ask('WebDriver:NewSession', { acceptInsecureCerts: true });
        await use(async url => {
            await ask('WebDriver:Navigate', { url });
            return expression => ask('WebDriver:ExecuteScript', { script: 'return ' + expression, args: [] });
        });
        socket.destroy();
    } finally {
        try { process.kill(-child.pid, 'SIGKILL'); } catch { /* it has ended */ }
        await new Promise(done => setTimeout(done, 500));
        fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    }
}

main((async () => {
    await withFetch(`fetch of Node ${process.version}`);
    if (chromium) await browse(chromium, open => inBrowser('a form in Chromium', open));
    if (firefox) await browseFirefox(firefox, open => inBrowser('a form in Firefox', open));
    process.exit(0);
})());
