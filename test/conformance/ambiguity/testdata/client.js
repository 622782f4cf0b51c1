// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Asks the questions of its input, one after the other, and says what Node
// understood of the answers.
'use strict';
const http = require('http');
const fs = require('fs');

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

const ask = (q) => new Promise((done) => {
  const u = { Status: 0, Fields: [], Body: '', Err: '' };
  const parts = [];
  let over = false;
  const end = (why) => {
    if (over) {
      return;
    }
    over = true;
    u.Err = why || '';
    u.Body = Buffer.concat(parts).toString('base64');
    done(u);
  };
  const req = http.request(q.URL, { method: q.Method, agent, headers: { Host: 'amb.example' }, maxHeaderSize: 65536 }, (res) => {
    u.Status = res.statusCode;
    for (let i = 0; i < res.rawHeaders.length; i += 2) {
      u.Fields.push(res.rawHeaders[i].toLowerCase() + ': ' + res.rawHeaders[i + 1]);
    }
    res.on('data', (d) => parts.push(d));
    res.on('end', () => end(res.complete ? '' : 'not complete'));
    res.on('error', (e) => end(e.code || e.message));
    res.on('aborted', () => end('aborted'));
  });
  req.on('error', (e) => end(e.code || e.message));
  req.on('upgrade', () => end('upgrade'));
  req.end();
});

(async () => {
  const out = [];
  for (const q of JSON.parse(fs.readFileSync(0))) {
    out.push(await ask(q));
  }
  agent.destroy();
  process.stdout.write(JSON.stringify(out));
})();
