import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, line, mentions } from '../lib/format.js';

const cut = (text, me = 'ada') => format(text, me).map(({ kind, text: part }) => (kind === 'text' ? part : `${kind}(${part})`));

test('code, addresses and names are found, and the rest is left as it is', () => {
  assert.deepEqual(cut('run `go test` now'), ['run ', 'code(go test)', ' now']);
  assert.deepEqual(cut('see ```go\nfunc f() {\n\treturn\n}\n``` ok'), ['see ', 'block(func f() {\n\treturn\n})', ' ok']);
  assert.deepEqual(cut('https://a.example/x and `https://b.example`'), ['link(https://a.example/x)', ' and ', 'code(https://b.example)']);
  assert.deepEqual(cut('@bob and @Ada, hi'), ['at(@bob)', ' and ', 'me(@Ada)', ', hi']);
  assert.deepEqual(cut('mail x@ada.example or /@ada'), ['mail x@ada.example or /@ada']);
});

test('what is not closed is text', () => {
  for (const text of ['a ` b', '``` never closed', '``', '` `` `\n', '@', '@ ada', '****', '']) {
    assert.equal(format(text, 'ada').map((p) => p.text).join('').replaceAll('`', ''), text.replaceAll('`', ''));
  }
});

test('code hides what looks like a name or an address', () => {
  assert.deepEqual(cut('`@ada`'), ['code(@ada)']);
  assert.deepEqual(cut('```@ada https://x.example```'), ['block(@ada https://x.example)']);
});

test('a mention is the whole name, in any case, whatever signs are in it', () => {
  for (const [text, name, want] of [
    ['hi @ada!', 'ada', true], ['@ADA', 'ada', true], ['@ada.', 'ada', true], ['(@ada)', 'ada', true],
    ['@adam', 'ada', false], ['@ada-b', 'ada', false], ['@ada.b', 'ada', false], ['a@ada', 'ada', false], ['ada', 'ada', false],
    ['@Ada Lovelace, look', 'Ada Lovelace', true], ['@a.b', 'a.b', true], ['@axb', 'a.b', false], ['@李雷 你好', '李雷', true], ['@a+b', 'a', true],
  ]) assert.equal(mentions(text, name), want, `${text} for ${name}`);
});

test('hostile texts take no time and lose nothing', () => {
  const hard = ['`'.repeat(4096), '@'.repeat(4096), '@a'.repeat(2000), '``` '.repeat(1000), 'http://'.repeat(580), '(@'.repeat(2000), '@a.'.repeat(1300), '@a-'.repeat(1300)];
  for (const text of hard) {
    const from = process.cpuUsage(); // Of this process: others on the machine do not count.
    const joined = format(text, 'a').map((p) => p.text).join('');
    mentions(text, 'a');
    assert.ok(process.cpuUsage(from).user < 500_000, text.slice(0, 8));
    assert.equal(joined.replaceAll('`', ''), text.replaceAll('`', ''));
  }
});

test('one line has no breaks, no marks that turn the direction, and a bound', () => {
  assert.equal(line(' a\n\tb\u202ec '), 'a bc');
  assert.equal(line('x'.repeat(500)).length, 120);
  assert.equal(line('😀'.repeat(10), 5), '😀😀😀😀…');
});
