// Every function that reads a text of others, or what is typed, takes time linear in its length.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, line } from '../lib/format.js';
import { commandOf } from '../lib/input.js';
import { links } from '../lib/links.js';
import { Members } from '../lib/mentions.js';
import { initials, nameProblem } from '../lib/names.js';
import { sentence } from '../lib/text.js';
import { clean } from '../store/messages.js';
import { snippet } from '../store/search.js';

const members = new Members(['a', 'ada', 'a b c d e f g h', 'a.a.a.a.a.a', 'a-a']);
const functions = {
  format: (text) => format(text, 'ada', members),
  links,
  mentions: (text) => members.mentions(text, 'ada'),
  line,
  commandOf,
  clean,
  sentence,
  nameProblem,
  initials,
  snippet: (text) => snippet(text, Array.from({ length: text.length >> 2 }, (_, i) => [4 * i, 4 * i + 2])),
};

const SIGNS = ['a', ' ', '\n', '\r', '\t', '.', ',', '!', '-', '_', '*', '~', '|', '/', ':', '@', '#', '?', '%', '=', '\'', '"', '`', '(', ')', '[', ']', '{', '}', '<', '>', '\\', '\u00a0', '\u0085', '\u200b', '\u0301', '。', '’', '～', '–', '李', '😀', '\ud800', '\u202e', '\u0000'];
const UNITS = ['http://', 'https://a/', 'http://[', 'http://a@', 'http://(', 'www.', 'www.a.', 'www.a.bc/', 'a.bc李', 'a@', '@a', '@a ', '@a.', '@ada ', 'a@b.', 'a@b.cd:', '@_', '``` ', '```a\n', '`a`', '`\n', '()', '([{', ')]}', '(a', 'a)', '. ', ' .', '!x', '**', '\r\n', '😀.', 'a\u0301', '://', '//@'];
// A text is a beginning, n times a unit, and an end: the end makes an expression that has come so far go back.
const BEGINNINGS = ['', 'a', 'http://a/', 'http://', 'www.a.bc/', 'me@a.', '@a', '`', '```', '(', ' '];
const ENDS = ['', 'x', ')', 'x)'];

const texts = []; // functions of the length of a text
const repeat = (unit, n) => unit.repeat(Math.ceil(n / unit.length));
for (const unit of [...SIGNS, ...UNITS]) texts.push((n) => repeat(unit, n));
for (const unit of SIGNS) for (const start of BEGINNINGS) for (const end of ENDS) if (start || end) texts.push((n) => start + repeat(unit, n) + end);
texts.push((n) => `http://a/${'!'.repeat(n)}x${')'.repeat(n >> 1)}`, (n) => `${'('.repeat(n)}http://a/${')'.repeat(n)}`, (n) => '@'.repeat(n) + 'a'.repeat(n), (n) => repeat('a@', n) + repeat('b.', n));

const SHORT = 2_000;
const TIMES = 8; // longer; with time in the square of the length it takes 64 times as long, or more
const FACTOR = 40;
const TRIES = 25; // others use the machine too: the best of a few counts

const texts8 = texts.map((make) => [make(SHORT), make(SHORT * TIMES)]);

function time(f, text) {
  const start = performance.now();
  f(text);
  return performance.now() - start;
}

for (const [name, f] of Object.entries(functions)) {
  test(`${name} takes time linear in the text`, () => {
    for (const [short, long] of texts8) {
      let least = Infinity;
      let least8 = Infinity;
      for (let i = 0; i < TRIES; i++) {
        least8 = Math.min(least8, time(f, long));
        least = Math.min(least, time(f, short));
        if (i > 0 && least8 < FACTOR * least) break;
      }
      assert.ok(least8 < FACTOR * least, `${JSON.stringify(short.slice(0, 20))}…${JSON.stringify(short.slice(-4))}: ${least8 / least} times as long for a text ${TIMES} times as long`);
    }
  });
}

test('nothing is lost of a hostile text', () => {
  for (const [short] of texts8) {
    if (!short.includes('`')) assert.equal(format(short, 'ada', members).map((p) => p.text).join(''), short);
    assert.equal(links(short).map((p) => p.text ?? p).join(''), short);
  }
});
