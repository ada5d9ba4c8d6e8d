import assert from 'node:assert/strict';
import { test } from 'node:test';
import { around, cap, earlier, hold, indexOf, later, NEWEST, settle, span } from '../store/window.js';

const id = (n) => String(n).padStart(6, '0');
const list = (n, from = 0) => Array.from({ length: n }, (_, i) => ({ id: id(from + i) }));
const width = (l, w) => ((s) => s[1] - s[0])(span(l, w));

test('indexOf finds an id, or where it would be', () => {
  const l = [{ id: 'b' }, { id: 'd' }];
  assert.deepEqual(['a', 'b', 'c', 'd', 'e'].map((x) => indexOf(l, x)), [0, 0, 1, 1, 2]);
  assert.equal(indexOf([], 'a'), 0);
});

test('at the end a few are drawn, and new ones push the first ones out', () => {
  assert.deepEqual(span(list(5000), NEWEST), [4920, 5000]);
  assert.deepEqual(span(list(5001), NEWEST), [4921, 5001]);
  assert.deepEqual(span(list(3), NEWEST), [0, 3]);
  assert.deepEqual(span([], NEWEST), [0, 0]);
});

test('from the end to the start and back every message is drawn, and never too many at once', () => {
  const l = list(5000);
  let w = NEWEST;
  const seen = new Set();
  const see = () => {
    const [start, end] = span(l, w);
    assert.ok(end - start <= 200 && end - start >= 80, `${end - start} are drawn`);
    for (let i = start; i < end; i++) seen.add(i);
  };
  for (let before = null; before !== w; before = w, w = earlier(l, w), see());
  assert.equal(seen.size, 5000);
  assert.equal(span(l, w)[0], 0);
  seen.clear();
  see();
  for (let before = null; before !== w; before = w, w = later(l, w), see());
  assert.equal(seen.size, 5000);
  assert.equal(w.to, '');
});

test('a step keeps most of what was drawn, so that the reader keeps the place', () => {
  const l = list(1000);
  const w = around(l, id(500));
  const [a] = span(l, w);
  const [b, end] = span(l, earlier(l, w));
  assert.ok(b < a && end > a + 40);
});

test('what comes at the end, or before the start, does not move what is read', () => {
  const l = list(300, 100);
  const w = earlier(l, around(l, id(250)));
  const before = l.slice(...span(l, w)).map((m) => m.id);
  for (const more of [[...l, ...list(50, 400)], [...list(50, 50), ...l]]) assert.deepEqual(more.slice(...span(more, w)).map((m) => m.id), before);
});

test('a window that begins at the first message takes in older ones, up to a bound', () => {
  const l = list(300, 1000);
  let w = earlier(l, earlier(l, around(l, id(1090))));
  assert.equal(span(l, w)[0], 0);
  const more = [...list(50, 950), ...l];
  assert.equal(span(more, w)[0], 0);
  const most = [...list(400, 600), ...l];
  assert.deepEqual(span(most, cap(most, w)), [0, 200]);
  // Wherever one reads, that is still drawn, with something around it.
  for (const at of [0, 50, 150, 250, 400, 520]) {
    const [start, end] = span(most, cap(most, w, most[at].id));
    assert.ok(end - start === 200 && start <= at && at < end && (at === 0 || at - start >= 50 || start === 0), `${at} in ${start} to ${end}`);
  }
});

test('a window at the end that is held stays where it is', () => {
  const l = list(300);
  const w = hold(l, NEWEST);
  assert.deepEqual(span([...l, ...list(20, 300)], w), [220, 320]);
  assert.equal(hold(l, w), w);
});

test('at the end a window that has grown is cut, another one is left alone', () => {
  const l = list(1000);
  const grown = { from: id(100), to: '' };
  assert.equal(width(l, settle(l, grown)), 80);
  const kept = { from: id(900), to: '' };
  assert.equal(settle(l, kept), kept);
});

test('a window whose messages have gone is still one', () => {
  const l = list(100, 500);
  for (const w of [{ from: id(1), to: id(2) }, { from: id(900), to: '' }, { from: id(10), to: id(520) }]) {
    const [start, end] = span(l, w);
    assert.ok(start >= 0 && start <= end && end <= 100);
  }
});
