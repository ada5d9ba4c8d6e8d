import assert from 'node:assert/strict';
import { test } from 'node:test';
import { links } from '../lib/links.js';

// cut puts the addresses of a text into ‹›; one that is not its own text has an arrow.
const cut = (text) => links(text).map((p) => (typeof p === 'string' ? p : p.href === p.text ? `‹${p.href}›` : `‹${p.text}→${p.href}›`)).join('');
const each = (cases) => {
  for (const [text, want] of cases) assert.equal(cut(text), want);
};

test('an address ends before what belongs to the sentence', () => each([
  ['see https://example.org/a, and (http://b.example/x).', 'see ‹https://example.org/a›, and (‹http://b.example/x›).'],
  ['(see https://en.wikipedia.org/wiki/Curtain_(disambiguation))', '(see ‹https://en.wikipedia.org/wiki/Curtain_(disambiguation)›)'],
  ['(https://example.org/a)b', '(‹https://example.org/a›)b'],
  ['https://example.org/a_(b).', '‹https://example.org/a_(b)›.'],
  ['{https://example.org/a}', '{‹https://example.org/a›}'],
  ['{https://example.org/{id}}', '{‹https://example.org/{id}›}'],
  ['[x](https://example.org/a[0])', '[x](‹https://example.org/a[0]›)'],
  ['https://example.org/a([', '‹https://example.org/a›(['],
  ['<https://example.org/a>', '<‹https://example.org/a›>'],
  ['"https://example.org/a"', '"‹https://example.org/a›"'],
  ["'https://example.org/a', x", "'‹https://example.org/a›', x"],
  ['(http://[::1]:8080)', '(‹http://[::1]:8080›)'],
  ['(https://example.org)', '(‹https://example.org›)'],
  ['|https://example.org|https://b.example/|', '|‹https://example.org›|‹https://b.example/›|'],
  ['https://example.org,https://b.example/x,https://c.example;y', '‹https://example.org›,‹https://b.example/x›,‹https://c.example›;y'],
  ['https://web.archive.org/web/2020/https://example.org/', '‹https://web.archive.org/web/2020/https://example.org/›'],
  ['https://example.org.', '‹https://example.org›.'],
]));

test('signs of emphasis are no part of an address', () => each([
  ['**https://example.org/a**', '**‹https://example.org/a›**'],
  ['**https://example.org/a**b', '**‹https://example.org/a›**b'],
  ['**see https://example.org/a**, yes', '**see ‹https://example.org/a›**, yes'],
  ['*https://example.org*', '*‹https://example.org›*'],
  ['_https://example.org/a_b_', '_‹https://example.org/a_b›_'],
  ['~~https://example.org/a~~', '~~‹https://example.org/a›~~'],
  ['||https://example.org/a||', '||‹https://example.org/a›||'],
  ['==https://example.org/a==', '==‹https://example.org/a›=='],
  ['https://example.org/a**b', '‹https://example.org/a**b›'],
  ['https://example.org/?a=b==', '‹https://example.org/?a=b==›'],
]));

test('punctuation of every script ends an address', () => each([
  ['见https://example.org/a。好', '见‹https://example.org/a›。好'],
  ['「https://example.org/a」', '「‹https://example.org/a›」'],
  ['«https://example.org/a»', '«‹https://example.org/a›»'],
  ['“https://example.org/a”', '“‹https://example.org/a›”'],
  ['https://example.org/a؟', '‹https://example.org/a›؟'],
  ['https://example.org/a।', '‹https://example.org/a›।'],
  ['https://example.org/a…', '‹https://example.org/a›…'],
  ['https://example.org/a–', '‹https://example.org/a›–'],
  ['https://example.org/（a）', '‹https://example.org/›（a）'],
  ['https://example.org/a\u202egpj', '‹https://example.org/a›\u202egpj'],
  ['https://example.org/a\u200bb', '‹https://example.org/a›\u200bb'],
  ['https://de.wikipedia.org/wiki/Größe!', '‹https://de.wikipedia.org/wiki/Größe›!'],
  ['https://en.wikipedia.org/wiki/Bose–Einstein', '‹https://en.wikipedia.org/wiki/Bose–Einstein›'],
  ['https://fr.wikipedia.org/wiki/L’eau’', '‹https://fr.wikipedia.org/wiki/L’eau›’'],
  ['https://例え.jp/パス、次', '‹https://例え.jp/パス›、次'],
  ['请写信到me@example.org吧', '请写信到‹me@example.org→mailto:me@example.org›吧'],
  ['見るwww.example.orgを', '見る‹www.example.org→https://www.example.org›を'],
  ['看https://example.org吧', '看‹https://example.org›吧'],
  ['https://ja.wikipedia.org/wiki/日本', '‹https://ja.wikipedia.org/wiki/日本›'],
  ['https://日本.example/あ', '‹https://日本.example/あ›'],
  ['https://example.org/a～', '‹https://example.org/a›～'],
  ['„https://example.org/a“', '„‹https://example.org/a›“'],
  ['https://example.org/a።', '‹https://example.org/a›።'],
  ['https://i❤.ws/😀', '‹https://i❤.ws/😀›'],
]));

test('what begins with www. and mail addresses are addresses too', () => each([
  ['www.example.org', '‹www.example.org→https://www.example.org›'],
  ['(WWW.Example.org:8080/a_(b)).', '(‹WWW.Example.org:8080/a_(b)→https://WWW.Example.org:8080/a_(b)›).'],
  ['www.example.co.uk?x=1!', '‹www.example.co.uk?x=1→https://www.example.co.uk?x=1›!'],
  ['**www.example.org**', '**‹www.example.org→https://www.example.org›**'],
  ['me@example.org', '‹me@example.org→mailto:me@example.org›'],
  ['(First.Last+tag@mail.example.co.uk), x', '(‹First.Last+tag@mail.example.co.uk→mailto:First.Last+tag@mail.example.co.uk›), x'],
  ['mailto:me@example.org.', 'mailto:‹me@example.org→mailto:me@example.org›.'],
  ['_me@example.org_', '_‹me@example.org→mailto:me@example.org›_'],
  ['jürgen@müller.example', '‹jürgen@müller.example→mailto:jürgen@müller.example›'],
]));

test('what only looks like an address is text', () => {
  for (const text of [
    'file.txt', '1.2.3', 'a@b', 'a@b.c', 'x@1.2.3', 'www.', 'www.example', 'www.1.2', 'www..a.b', 'awww.example.org', 'icon@2x.png', '@ada', '@ada@example.org', 'ada@', '@', 'a..b@example.org',
    'git@github.com:a/b', 'ftp://user:secret@example.org', 'postgres://u:p@example.org/db', '/home/me@example.org', 'me@-example.org', 'me@example-.org', 'x'.repeat(65) + '@example.org',
    'javascript:alert(1)', 'data:text/html,x', 'https://', 'https://)', 'http://[', 'xhttps://example.org', 'https://example.org:99999/', '', 'e.g. i.e. and/or a.m. Node.js v1.2.3-rc.1 foo.bar()',
  ]) assert.equal(cut(text), text);
});

test('links keeps every character', () => {
  for (const text of ['a http://x.y/).. b', 'http://a.b http://a.b', 'http://[', 'x https://é.example/ü?q=ö#x!', 'http://http://http://', 'a@b.cd@e.fg', 'www.a.bc/www.d.ef']) {
    assert.equal(links(text).map((p) => p.text ?? p).join(''), text);
  }
});

test('a long address is shortened for display, never within its host', () => {
  const [long] = links(`https://example.org/${'a'.repeat(300)}`);
  assert.ok(long.shown.length < 80 && long.text.startsWith(long.shown));
  assert.equal(long.href, long.text);
  const [short] = links('https://example.org/a/b?c=d');
  assert.equal(short.shown, short.text);
  const [disguised] = links(`https://bank.example@${'a.'.repeat(60)}evil.example/${'b'.repeat(200)}`);
  assert.ok(disguised.shown.includes('evil.example/'));
  const [emoji] = links(`https://example.org/${'😀'.repeat(300)}`);
  assert.ok(emoji.shown.isWellFormed());
});
