// usage: client.js PORT VERSION CA [CERT KEY]: two connections, the second one resumes.
const tls = require('tls'), fs = require('fs');
const [port, version, ca, cert, key] = process.argv.slice(2);
let session;

function visit(then) {
    const s = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', session,
                            ca: fs.readFileSync(ca), minVersion: 'TLSv' + version,
                            maxVersion: 'TLSv' + version, cert: cert && fs.readFileSync(cert),
                            key: key && fs.readFileSync(key) },
                          () => s.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'));
    let text = '';
    s.on('session', data => session = data);
    s.on('data', part => text += part);
    s.on('end', () => { process.stdout.write(text.split('\r\n\r\n')[1]); then(); });
    s.on('error', e => { throw e; });
}
visit(() => visit(() => {}));
