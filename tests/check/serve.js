// examples/serve in Chromium: a video element that seeks, a file added from the listing, and a page
// that was uploaded and is no page of the site:
// serve.js PORT chromium
'use strict';
const { within, browse, main } = require('./chromium.js');
const port = process.argv[2], chromium = process.argv[3];

async function seek(open) {
    const page = await open(`https://localhost:${port}/video.html`);
    await within('the video is there', () => page('document.querySelector("video")?.readyState >= 1'));
    const length = await page('document.querySelector("video").duration');
    for (const at of [length - 5, 7, length / 2]) {
        await page(`document.querySelector('video').currentTime = ${at}`);
        await within(`second ${at} is there`, () => page(`(v => !v.seeking && v.readyState >= 2 &&
            Math.abs(v.currentTime - ${at}) < 0.5)(document.querySelector('video'))`));
    }
    console.log('ok: a video element in Chromium seeks');
}

async function upload(open) {
    const page = await open(`https://localhost:${port}/inbox/`);
    await within('the listing is there', () => page('document.querySelector("input")?.type === "file"'));
    await page(`(() => {
        const files = new DataTransfer(), input = document.querySelector('input');
        files.items.add(new File(['from a page'], 'from a page.txt'));
        input.files = files.files;
        input.dispatchEvent(new Event('change'));
    })()`);
    await within('the listing shows it', () =>
        page('document.querySelector("table")?.innerText.includes("from a page.txt")'));
    console.log('ok: Chromium adds a file from the listing');
}

// Its script does not run, and it has no origin that it could ask anything in the name of.
async function sandbox(open) {
    const page = await open(`https://localhost:${port}/inbox/page.html`);
    await within('the page is there', () => page('document.querySelector("p")?.innerText === "uploaded"'));
    if (await page('document.title') !== 'harmless') throw new Error('the script of an uploaded page runs');
    if (await page('self.origin') !== 'null') throw new Error('an uploaded page has the origin of the site');
    const listing = await open(`https://localhost:${port}/inbox/`);
    await within('index.html is one of the rows', () =>
        listing('document.querySelector("table")?.innerText.includes("index.html")'));
    console.log('ok: an uploaded page runs nothing in Chromium, and index.html is a file like others');
}

main(browse(chromium, async open => { await seek(open); await upload(open); await sandbox(open); }));
