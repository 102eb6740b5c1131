// examples/serve in Chromium: a video element that seeks, files chosen in the listing and dropped on
// it, its headings, and a page that was uploaded and is no page of the site:
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

// A file and one that is there already: the first is stored, the page says what became of the other.
async function drop(open) {
    const page = await open(`https://localhost:${port}/inbox/`);
    await within('the listing is there', () => page('typeof document.ondrop === "function"'));
    await page(`(() => {
        const files = new DataTransfer();
        files.items.add(new File(['x'.repeat(500000)], 'dropped.txt'));
        files.items.add(new File(['again'], 'from a page.txt'));
        document.dispatchEvent(new DragEvent('dragover', { dataTransfer: files, cancelable: true }));
        window.marked = document.body.className;
        document.dispatchEvent(new DragEvent('drop', { dataTransfer: files, cancelable: true }));
    })()`);
    if (await page('window.marked') !== 'drop') throw new Error('nothing shows where to drop');
    await within('both have an answer', () => page('document.querySelectorAll("progress").length === 0'));
    const said = await page('document.querySelector("ol").innerText');
    if (!/dropped.txt\s+stored/.test(said) || !/from a page.txt\s+there is one of that name/.test(said))
        throw new Error(said);
    console.log('ok: Chromium uploads what is dropped, and says what is not taken');
}

async function sort(open) {
    const page = await open(`https://localhost:${port}/inbox/?sort=size`);
    await within('the listing is there', () => page('document.querySelectorAll("th").length === 3'));
    await page('document.querySelectorAll("th a")[1].click()');
    await within('the largest comes first', () => page(
        'location.search === "?sort=-size" && document.querySelectorAll("tbody td")[3]?.innerText === "dropped.txt"'));
    console.log('ok: the headings of the listing sort it');
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

main(browse(chromium, async open => { await seek(open); await upload(open); await drop(open); await sort(open); await sandbox(open); }));
