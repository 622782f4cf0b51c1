// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// A backend that says on its output what Node understood of each request.
'use strict';
const http = require('http');

let made = 0;
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');

const answer = (req, res) => {
  if (req.url === '/settle') {
    res.end();
    say({ settled: true });
    return;
  }
  const parts = [];
  req.on('data', (d) => parts.push(d));
  req.on('error', () => {}); // it was never all there
  req.on('end', () => {
    const fields = [];
    for (let i = 0; i < req.rawHeaders.length; i += 2) {
      fields.push(req.rawHeaders[i].toLowerCase() + ': ' + req.rawHeaders[i + 1]);
    }
    const id = 'node-' + ++made;
    say({
      record: {
        ID: id, Method: req.method, Target: req.url, Host: req.headers.host || '',
        Length: req.headers['content-length'] || '', Coding: req.headers['transfer-encoding'] || '',
        Latin: fields, Body: Buffer.concat(parts).toString('base64'),
      },
    });
    res.setHeader('X-Record', id);
    res.setHeader('Content-Type', 'text/plain');
    res.end('read');
  });
};

const server = http.createServer({ keepAliveTimeout: 600000, requestTimeout: 0, headersTimeout: 0, maxHeaderSize: 65536 }, answer);
server.maxHeadersCount = 0;
for (const event of ['checkContinue', 'checkExpectation', 'connect']) {
  server.on(event, (req) => say({ refused: event + ' ' + req.method + ' ' + req.url }));
}
server.on('clientError', (err, socket) => {
  if (err.code !== 'ECONNRESET') {
    say({ refused: err.code + ' ' + (err.rawPacket ? err.rawPacket.toString('latin1').slice(0, 200) : '') });
  }
  if (socket.writable) {
    socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  } else {
    socket.destroy();
  }
});
server.listen(0, '127.0.0.1', () => {
  const a = server.address();
  say({ listening: a.address + ':' + a.port });
});
process.on('SIGTERM', () => process.exit(0));
