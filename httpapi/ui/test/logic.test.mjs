import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { reconnectDelay, retryHint } from '../connection/backoff.js';
import { frames, isChat, uuid } from '../connection/wire.js';
import { hue, initials, nameProblem } from '../lib/names.js';
import { sentence } from '../lib/text.js';
import { dayOf, fullTimeOf, timeOf } from '../lib/times.js';
import { clean, merge, rows, talkOf } from '../store/messages.js';

const msg = (id, sender = 'bob', content = id, to_user = '') => ({ id, sender, content, to_user, sent_at: '2026-01-31T12:00:00Z' });
const ids = (list) => list.map((m) => m.id).join('');

test('merge orders by id and keeps each id once', () => {
  const { list, added } = merge([msg('b'), msg('d')], [msg('c'), msg('a'), msg('d'), msg('c')]);
  assert.equal(ids(list), 'abcd');
  assert.equal(ids(added), 'ca');
});

test('merge returns the same list when nothing is new, and never changes it', () => {
  const before = [msg('a')];
  assert.equal(merge(before, [msg('a')]).list, before);
  merge(before, [msg('b')]);
  assert.equal(ids(before), 'a');
});

test('merge skips what has no id', () => {
  assert.equal(merge([], [{ content: 'x' }]).added.length, 0);
});

test('talkOf finds the talk of a message', () => {
  assert.equal(talkOf(msg('1'), 'me'), '');
  assert.equal(talkOf(msg('1', 'bob', '', 'global'), 'me'), '');
  assert.equal(talkOf(msg('1', 'bob', '', 'me'), 'me'), 'bob');
  assert.equal(talkOf(msg('1', 'me', '', 'bob'), 'me'), 'bob');
  assert.equal(talkOf(msg('1', 'me', '', 'me'), 'me'), 'me');
});

test('clean trims what the server trims', () => {
  assert.equal(clean('\u00a0 a\nb \u0085\n'), 'a\nb');
  assert.equal(clean('\u001b[31ma\tb\r\nc\u0000\u007f\u009b\u0085d'), '[31ma\tb\nc\nd', 'and leaves out what it refuses');
});

test('reconnectDelay doubles up to 30 s, half of it random', () => {
  const low = { random: () => 0 };
  const high = { random: () => 1 };
  assert.deepEqual([0, 1, 2, 3].map((n) => reconnectDelay(n, low)), [250, 500, 1000, 2000]);
  assert.deepEqual([0, 1, 2, 3].map((n) => reconnectDelay(n, high)), [500, 1000, 2000, 4000]);
  assert.equal(reconnectDelay(1000, high), 30_000);
});

test('reconnectDelay takes the hint of a restarting server as it is', () => {
  assert.equal(reconnectDelay(5, { code: 1012, reason: 'retry-ms=1234' }), 1234);
  assert.equal(reconnectDelay(0, { code: 1012, reason: 'restart; retry-ms=0' }), 0);
  assert.equal(reconnectDelay(0, { code: 1012, reason: 'bye', random: () => 1 }), 500);
  assert.equal(reconnectDelay(0, { code: 1006, reason: 'retry-ms=9', random: () => 1 }), 500);
});

test('reconnectDelay waits longer after being told to slow down', () => {
  assert.ok(reconnectDelay(0, { code: 4429 }) >= 10_000);
  assert.ok(reconnectDelay(0, { code: 1013 }) >= 2_000);
});

test('retryHint bounds what it reads and ignores the rest', () => {
  assert.equal(retryHint('retry-ms=999999999'), 300_000);
  for (const reason of ['', undefined, 'retry-ms=', 'retry-ms=-5', 'xretry-ms=5', 'retry-ms=1e9999999999']) assert.equal(retryHint(reason), null);
});

test('nameProblem agrees with the server', () => {
  const cases = JSON.parse(readFileSync(new URL('../../../auth/testdata/names.json', import.meta.url)));
  assert.ok(cases.length > 50);
  for (const { raw, name, server } of cases) {
    if (raw === raw.trim() && !server) assert.equal(nameProblem(raw) === '', name !== '', JSON.stringify(raw)); // The page trims, and leaves to the server what names look like.
  }
});

test('nameProblem says what is wrong', () => {
  assert.match(nameProblem(' '), /type a name/);
  assert.match(nameProblem('alice\u3164'), /letters/);
  assert.match(nameProblem('alice  b'), /single/);
  assert.match(nameProblem('x'.repeat(65)), /64/);
  assert.match(nameProblem('Global'), /everyone/);
  assert.match(nameProblem('a/b'), /only letters/);
  assert.match(nameProblem('a<b'), /only letters/);
  assert.match(nameProblem('a.'), /starts and ends/);
  assert.match(nameProblem('-a'), /starts and ends/);
});

test('rows puts in days, the new line, and starts groups', () => {
  const at = (id, sender, time, day) => ({ id, sender, sent_at: `2026-01-${day}T12:${time}:00Z` });
  const list = [at('a', 'x', '00', '01'), at('b', 'x', '01', '01'), at('c', 'y', '02', '01'), at('d', 'y', '20', '01'), at('e', 'y', '21', '02')];
  const out = rows(list, { dayOf: (m) => m.sent_at.slice(8, 10), marker: 'c' });
  assert.deepEqual(
    out.map((r) => (r.kind === 'message' ? r.msg.id + (r.first ? '*' : '') : r.kind)),
    ['day', 'a*', 'b', 'new', 'c*', 'd*', 'day', 'e*'],
  );
  assert.equal(new Set(out.map((r) => r.key)).size, out.length);
});

test('sentence makes a message one for the page', () => {
  assert.equal(sentence('too long; split it'), 'Too long; split it.');
  assert.equal(sentence('Already fine!'), 'Already fine!');
  assert.equal(sentence(' '), '');
});

test('initials and hue do not break on odd names', () => {
  assert.equal(initials('alice'), 'A');
  assert.equal(initials('alice.b'), 'AB');
  assert.equal(initials('李 雷'), '李雷');
  assert.equal(initials(''), '?');
  assert.equal(hue('alice'), hue('alice'));
  assert.ok(hue('bob') >= 0 && hue('bob') < 360);
});

test('colours of names are spread over the palette', () => {
  for (const names of [['ada', 'bob', 'carl', 'mallory'], ['alice', 'bob', 'carol', 'dave', 'eve'], ['user1', 'user2', 'user3', 'user4'], ['李雷', '韩梅梅', '王芳', '张伟']]) {
    assert.equal(new Set(names.map(hue)).size, names.length, `${names}`);
  }
  for (const make of [(i) => `guest ${i}`, (i) => String.fromCodePoint(0x4e00 + i), (i) => i.toString(36)]) {
    const counts = new Map();
    for (let i = 0; i < 8000; i++) counts.set(hue(make(i)), (counts.get(hue(make(i))) ?? 0) + 1);
    assert.equal(counts.size, 16);
    for (const count of counts.values()) assert.ok(count > 350 && count < 650, `${make(0)}: ${count} of 8000`);
  }
});

test('dayOf names the days around now', () => {
  const now = new Date(2026, 0, 31, 0, 5);
  const local = (...parts) => new Date(2026, 0, ...parts).toISOString();
  assert.equal(dayOf(local(31, 0, 1), now), 'Today');
  assert.equal(dayOf(local(30, 23, 59), now), 'Yesterday');
  assert.match(dayOf(local(29, 12), now), /29/);
  assert.match(dayOf('2024-05-05T12:00:00Z', now), /2024/);
  assert.equal(dayOf('nonsense', now), '');
  assert.equal(timeOf('nonsense') + fullTimeOf('nonsense'), '');
  assert.match(timeOf('2026-01-31T12:34:56Z'), /^\d\d:\d\d$/);
});

test('frames of what is no batch are none', () => {
  for (const text of ['', '{', 'null', '[]', '1', '"x"', '{}', '{"frames":5}', '{"frames":[null,1]}']) assert.deepEqual(frames(text), []);
  assert.deepEqual(frames('{"frames":[{"pong":{}},{"later":{}}]}'), [{ pong: {} }, { later: {} }]);
  for (const m of [undefined, null, {}, { id: 1, sender: 'a', content: 'x' }, { id: '', sender: 'a', content: 'x' }, { id: 'a', content: 'x' }]) assert.ok(!isChat(m));
});

test('uuid makes what the server takes, another one each time', () => {
  assert.match(uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(uuid(), uuid());
});
