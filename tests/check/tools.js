// The pages of the examples in Chromium, and pictures of them: tools.js CHROMIUM FOLDER PORTS, those of
// embedded, form, filedrop, dashboard and api, and the one at which api expects pages of another origin.
'use strict';
const fs = require('fs'), http = require('http'), path = require('path');
const { within, browse, main } = require('./chromium.js');
const [chromium, folder, ...ports] = process.argv.slice(2);
const site = name => `https://localhost:${ports[['embedded', 'form', 'filedrop', 'dashboard', 'api'].indexOf(name)]}/`;

// NAME-light.png, -dark.png and -phone.png.
async function picture(page, name) {
    for (const [kind, width, scheme] of [['light', 1000, 'light'], ['dark', 1000, 'dark'], ['phone', 360, 'light']]) {
        await page.ask('Emulation.setDeviceMetricsOverride',
                       { width, height: 720, deviceScaleFactor: 1, mobile: width < 500 });
        await page.ask('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
        if (await page('document.documentElement.scrollWidth > innerWidth'))
            throw new Error(`${name} is wider than a window of ${width}`);
        const shot = await page.ask('Page.captureScreenshot', { format: 'png' });
        fs.writeFileSync(path.join(folder, `${name}-${kind}.png`), Buffer.from(shot.result.data, 'base64'));
    }
}

// Chooses a file as its reader would.
const choose = (name, text) => `(() => {
    const all = new DataTransfer(), input = document.querySelector('input[type=file]');
    all.items.add(new File([${JSON.stringify(text)}], ${JSON.stringify(name)}));
    input.files = all.files;
})()`;
const fill = (name, value) => `document.querySelector('[name=${name}]').value = ${JSON.stringify(value)}`;
const press = `document.querySelector('button').click()`;

async function embedded(open) {
    const page = await open(site('embedded'));
    await within('the page is styled', () => page(`document.readyState === 'complete' &&
        getComputedStyle(document.querySelector('main')).maxWidth !== 'none' && document.images[0].naturalWidth > 0`));
    await page(press);
    await within('the lamp is on', () => page(`document.querySelector('output').textContent === 'on'`));
    await picture(page, 'embedded');
    console.log('ok: embedded in Chromium');
}

async function form(open) {
    const page = await open(site('form'));
    await within('the form', () => page(`!!document.querySelector('button')`));
    await page(press);
    if (await page('document.title') !== 'Report a problem')
        throw new Error('form: an empty one was sent');
    await page(fill('name', 'Ann'));
    await page(fill('message', 'The lamp <b>flickers</b>.'));
    await page(choose('log.txt', 'a file'));
    await picture(page, 'form');
    await page(press);
    await within('thanks', () => page(`document.body?.innerText.includes('log.txt, 6 bytes')`));
    await picture(page, 'form-thanks');
    console.log('ok: form in Chromium');
}

async function filedrop(open) {
    const page = await open(site('filedrop'));
    await within('the form', () => page(`!!document.querySelector('button')`));
    await page(choose('drop & <i>.txt', 'dropped'));
    await page(press);
    await within('the list', () => page(`[...document.links].some(a => a.textContent.endsWith('-drop & _i_.txt'))`));
    const got = await page.ask('Runtime.evaluate', { awaitPromise: true, returnByValue: true, expression:
        `fetch([...document.links].find(a => a.textContent.endsWith('.txt') && a.textContent.includes('drop &')).href)` +
        `.then(r => r.text()).catch(e => 'refused')` });
    if (got.result.result.value !== 'refused')
        throw new Error('filedrop: its policy lets a script fetch');
    await picture(page, 'filedrop');
    console.log('ok: filedrop in Chromium');
}

async function dashboard(open) {
    const page = await open(site('dashboard'));
    const login = async password => {
        await within('the login', () => page(`!!document.querySelector('[type=password]')`));
        await page(fill('password', password));
        await page(press);
    };
    await within('the login', () => page(`!!document.querySelector('[type=password]')`));
    await picture(page, 'dashboard-login');
    await login('wrong');
    await within('it is refused', () => page(`document.body?.innerText.includes('Not accepted')`));
    await login('correct horse');
    const live = tab => tab(`document.body?.className === 'live' && document.querySelectorAll('dd')[1].textContent`);
    await within('figures', () => live(page));
    const other = await open(site('dashboard'));
    await within('figures for another reader', () => live(other));
    await within('two readers are busy', async () => Number(await live(page)) >= 2);
    if (await page('document.cookie') !== '')
        throw new Error('dashboard: a script sees ' + await page('document.cookie'));
    await picture(page, 'dashboard');
    await page(press);
    await within('the login', () => page(`!!document.querySelector('[type=password]')`));
    await within('the other is out, too', () => other(`!!document.querySelector('[type=password]')`));
    console.log('ok: dashboard in Chromium');
}

// A page of the origin that may, and the same page of another: a browser asks with OPTIONS for both.
async function api(open) {
    const app = http.createServer((request, response) => response.end('<!doctype html><title>app</title>'));
    await new Promise(ready => app.listen(ports[5], ready));
    const visit = async host => {
        const page = await open(`http://${host}:${ports[5]}/`);
        await within('the page', () => page(`document.title === 'app'`));
        return async (method, path, body) => (await page.ask('Runtime.evaluate', {
            awaitPromise: true, returnByValue: true, expression: `fetch('${site('api')}notes${path}', {
                method: '${method}', body: ${body ? `JSON.stringify({ text: '${body}' })` : 'undefined'}, headers: {
                'Authorization': 'Basic ' + btoa('ann:secret'), 'Content-Type': 'application/json' } })
                .then(r => r.text()).catch(e => 'refused')` })).result.result.value;
    };
    const ask = await visit('localhost'), stranger = await visit('127.0.0.1');
    const got = [await ask('POST', '', 'from a page'), await ask('PUT', '/1', 'changed'), await ask('GET', ''),
                 await stranger('GET', ''), await stranger('DELETE', '/1'), await ask('DELETE', '/1'), await ask('GET', '')];
    const wanted = ['{"id":1,"text":"from a page"}', '{"id":1,"text":"changed"}', '[{"id":1,"text":"changed"}]',
                    'refused', 'refused', '', '[]'];
    if (got.map(text => text.trim()).join() !== wanted.join())
        throw new Error(`api: ${got}`);
    app.close();
    console.log('ok: api in Chromium, for a page of another origin');
}

main(browse(chromium, async open => {
    await embedded(open);
    await form(open);
    await filedrop(open);
    await dashboard(open);
    await api(open);
}).then(() => process.exit(0)));
