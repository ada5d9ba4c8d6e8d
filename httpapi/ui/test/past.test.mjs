import assert from 'node:assert/strict';
import { test } from 'node:test';
import { id, msg, pass, range, settled, setup } from './world.mjs';

test('older messages come page by page, until there are none', async () => {
  const room = range(1, 220).map((n) => msg(n));
  const w = setup({ room });
  w.frame(msg(220));
  await w.chat.loadOlder('');
  assert.deepEqual(w.ids(), range(120, 220));
  await w.chat.loadOlder('');
  await w.chat.loadOlder('');
  assert.deepEqual(w.ids(), range(1, 220));
  assert.equal(w.chat.talks.get('').hasMore, false);
  await w.chat.loadOlder('');
  assert.equal(w.asked.length, 3);
});

test('two requests for the same page are one', async () => {
  const w = setup({ room: [msg(1)] });
  await Promise.all([w.chat.loadOlder(''), w.chat.loadOlder('')]);
  assert.equal(w.asked.length, 1);
});

test('trouble with older messages is told, and trying again works', async () => {
  const w = setup({ room: [msg(1)] });
  w.broken = true;
  await w.chat.loadOlder('');
  assert.equal(w.chat.talks.get('').trouble, 'down');
  w.broken = false;
  await w.chat.loadOlder('');
  assert.equal(w.chat.talks.get('').trouble, '');
  assert.deepEqual(w.ids(), [1]);
});

test('after a reconnect the hole before the history is filled', async () => {
  const room = range(1, 200).map((n) => msg(n));
  const w = setup({ room });
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.open(range(181, 200).map((n) => msg(n)));
  await settled();
  assert.deepEqual(w.ids(), range(1, 200));
  assert.equal(w.asked[0].before, id(181));
});

test('after a reconnect without a hole nothing is asked', async () => {
  const w = setup();
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.open(range(21, 40).map((n) => msg(n)));
  await settled();
  assert.deepEqual(w.ids(), range(1, 40));
  assert.deepEqual(w.asked, []);
});

test('a server that sends no history is asked for what was missed', async () => {
  const w = setup({ room: range(1, 10).map((n) => msg(n)) });
  for (const n of range(1, 5)) w.frame(msg(n));
  w.chat.closed();
  w.open();
  await settled();
  assert.deepEqual(w.ids(), range(1, 10));
});

test('a hole that cannot be filled is not hidden: the list starts after it', async () => {
  const w = setup({ room: range(1, 200).map((n) => msg(n)) });
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.broken = true;
  w.open(range(181, 200).map((n) => msg(n)));
  await settled();
  assert.deepEqual(w.ids(), range(181, 200));
  assert.equal(w.chat.talks.get('').hasMore, true);
  w.broken = false;
  for (let i = 0; i < 4; i++) await w.chat.loadOlder('');
  assert.deepEqual(w.ids(), range(1, 200));
});

test('missed messages of private talks are fetched, and unread', async () => {
  const direct = [msg(1, 'bob', 'a', 'me')];
  const w = setup({ direct });
  w.chat.open('bob');
  await w.chat.loadOlder('bob');
  w.chat.open('');
  w.chat.closed();
  direct.push(msg(2, 'bob', 'b', 'me'), msg(3, 'me', 'c', 'bob'));
  w.open();
  await settled();
  assert.deepEqual(w.ids('bob'), [1, 2, 3]);
  assert.equal(w.chat.talks.get('bob').unread, 1);
});

test('private messages that no archive keeps are never let go', async () => {
  const w = setup({ direct: [] });
  w.chat.open('bob');
  await w.chat.loadOlder('bob');
  w.frame(msg(1, 'bob', 'a', 'me'));
  w.chat.closed();
  w.open();
  await settled();
  assert.deepEqual(w.ids('bob'), [1]);
});

test('the room does not grow without end, but not under the eyes of a reader', () => {
  const w = setup();
  for (const n of range(1, 1201)) w.frame(msg(n));
  assert.equal(w.ids().length, 1000);
  assert.equal(w.chat.talks.get('').hasMore, true);
  w.chat.atBottom = false;
  for (const n of range(1202, 1500)) w.frame(msg(n));
  assert.equal(w.ids().length, 1299);
});

test('a hole with nothing after it is tried again until it is filled', async () => {
  const w = setup({ room: range(1, 10).map((n) => msg(n)) });
  for (const n of range(1, 5)) w.frame(msg(n));
  w.chat.closed();
  w.broken = true;
  w.open();
  await settled();
  w.broken = false;
  w.frame(msg(10));
  pass(5_000);
  await settled();
  assert.deepEqual(w.ids(), range(1, 10));
});

const begun = async () => ({ conversations: [{ with: 'bob', message: {} }, { with: '', message: {} }, { with: 7 }] });

test('private talks that others began while the page was closed are listed, and unread', async () => {
  const w = setup({ direct: [msg(1, 'bob', 'hi', 'me')], conversations: begun, remembered: { talks: ['carol'], read: { '': id(0) } } });
  await settled();
  assert.deepEqual(w.chat.privateTalks.map((t) => t.key).sort(), ['bob', 'carol']);
  assert.equal(w.chat.talks.get('bob').unread, 1);
  assert.equal(w.asked[0].talk, 'bob', 'the latest is fetched first');
});

test('a server that is behind is asked for them once more', async () => {
  let asked = 0;
  const w = setup({ conversations: async () => ({ conversations: ++asked > 1 ? [{ with: 'bob' }] : [], behind: 3 }) });
  await settled();
  assert.equal(asked, 1);
  pass(2_000);
  await settled();
  assert.deepEqual(w.chat.privateTalks.map((t) => t.key), ['bob']);
  pass(60_000);
  await settled();
  assert.equal(asked, 2);
});

test('what was said before the first visit is listed but not unread; a server that does not tell is no trouble', async () => {
  const w = setup({ room: [msg(1)], direct: [msg(2, 'bob', 'hi', 'me')], conversations: begun, open: false });
  w.open([msg(1)]);
  await settled();
  assert.deepEqual(w.chat.privateTalks.map((t) => [t.key, t.unread]), [['bob', 0]]);
  const again = setup({ direct: [msg(2, 'bob', 'hi', 'me')], conversations: begun, remembered: { visited: true } });
  await settled();
  assert.equal(again.chat.talks.get('bob').unread, 1, 'also where nobody has said anything in the room yet');
  const down = setup({ conversations: async () => { throw new Error('down'); }, remembered: { talks: ['carol'] } });
  await settled();
  assert.deepEqual(down.chat.privateTalks.map((t) => t.key), ['carol']);
});
