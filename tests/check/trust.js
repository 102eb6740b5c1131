// trust.js CHROMIUM HOME ADDRESS TEXT: Chromium shows the page without a warning if the certificates
// of HOME are trusted, and warns in a home of its own that trusts nobody.
'use strict';
const { within, browse, main } = require('./chromium.js');
const fs = require('fs'), os = require('os'), path = require('path');
const [chromium, home, address, text] = process.argv.slice(2);

async function look(trust) {
    let shown;
    await browse(chromium, async open => {
        const page = await open(address);
        shown = await within('a page', async () => await page('document.readyState === "complete" && ' +
            'location.href !== "about:blank" && document.body && document.body.innerText'));
    }, trust);
    return shown;
}

main((async () => {
    const shown = await look(home);
    if (!shown.includes(text)) throw new Error('Chromium shows: ' + shown);
    const stranger = fs.mkdtempSync(path.join(os.tmpdir(), 'stranger-'));
    const warning = await look(stranger);
    fs.rmSync(stranger, { recursive: true, force: true });
    if (warning.includes(text)) throw new Error('Chromium trusts it anyway');
    console.log('ok: Chromium shows the page without a warning, and warns where the CA is not trusted');
})());
