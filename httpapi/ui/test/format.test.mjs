import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, line } from '../lib/format.js';
import { Members } from '../lib/mentions.js';

const members = new Members(['ada', 'bob']);
const cut = (text, me = 'ada') => format(text, me, members).map(({ kind, text: part }) => (kind === 'text' ? part : `${kind}(${part})`));

test('code, addresses and names are found, and the rest is left as it is', () => {
  assert.deepEqual(cut('run `go test` now'), ['run ', 'code(go test)', ' now']);
  assert.deepEqual(cut('see ```go\nfunc f() {\n\treturn\n}\n``` ok'), ['see ', 'block(func f() {\n\treturn\n})', ' ok']);
  assert.deepEqual(cut('https://a.example/x and `https://b.example`'), ['link(https://a.example/x)', ' and ', 'code(https://b.example)']);
  assert.deepEqual(cut('@bob and @Ada, hi'), ['at(@bob)', ' and ', 'me(@Ada)', ', hi']);
  assert.deepEqual(cut('mail x@ada.example or /@ada'), ['mail ', 'link(x@ada.example)', ' or /@ada']);
});

test('a name of no member is text', () => {
  assert.deepEqual(cut('@nobody and @bobby, but @bob'), ['@nobody and @bobby, but ', 'at(@bob)']);
});

test('a language of code is no part of it, unless there is nothing else', () => {
  assert.deepEqual(cut('```js\nx\n```'), ['block(x)']);
  assert.deepEqual(cut('```c++\n```'), ['block(c++)']);
  assert.deepEqual(cut('```two words\nx```\ny'), ['block(two words\nx)', 'y']);
  assert.deepEqual(cut('a `b\nc` d `e`'), ['a `b\nc', 'code( d )', 'e`'], 'code is within one line');
});

test('what is not closed is text', () => {
  for (const text of ['a ` b', '``` never closed', '``', '` `` `\n', '@', '@ ada', '****', '']) {
    assert.equal(format(text, 'ada', members).map((p) => p.text).join('').replaceAll('`', ''), text.replaceAll('`', ''));
  }
});

test('code hides what looks like a name or an address', () => {
  assert.deepEqual(cut('`@ada`'), ['code(@ada)']);
  assert.deepEqual(cut('```@ada https://x.example```'), ['block(@ada https://x.example)']);
});

test('one line has no breaks, no marks that turn the direction, and a bound', () => {
  assert.equal(line(' a\n\tb\u202ec '), 'a bc');
  assert.equal(line('x'.repeat(500)).length, 120);
  assert.equal(line('😀'.repeat(10), 5), '😀😀😀😀…');
  assert.ok(line(`x${'😀'.repeat(400)}`).isWellFormed());
  assert.equal(line(`a${' '.repeat(600)}b`), 'a…', 'what is left out is marked');
});
