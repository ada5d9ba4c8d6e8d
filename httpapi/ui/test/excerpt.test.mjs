import assert from 'node:assert/strict';
import { test } from 'node:test';
import { id, msg, range, setup } from './world.mjs';

const room = range(1, 500).map((n) => msg(n));
const shown = (w) => w.chat.talks.get('').excerpt.messages.map((m) => Number(m.id.slice(3)));

test('a message from long ago is shown with what was said around it', async () => {
  const w = setup({ room });
  for (const n of range(490, 500)) w.frame(msg(n));
  await w.chat.openAt('', id(100));
  assert.deepEqual(shown(w), range(60, 139));
  assert.deepEqual(w.chat.talks.get('').target, { id: id(100) });
  assert.deepEqual(w.ids(), range(490, 500), 'the talk itself is as it was');
});

test('from there one can go on in both directions, until it meets the end', async () => {
  const w = setup({ room });
  for (const n of range(300, 500)) w.frame(msg(n));
  await w.chat.openAt('', id(240));
  await w.chat.loadOlder('');
  assert.deepEqual(shown(w), range(100, 279));
  await w.chat.loadNewer('');
  assert.equal(w.chat.talks.get('').excerpt, null);
  assert.deepEqual(w.ids(), range(100, 500));
});

test('the first message of all can be shown', async () => {
  const w = setup({ room });
  w.frame(msg(500));
  await w.chat.openAt('', id(1));
  assert.equal(shown(w)[0], 1);
  assert.equal(w.chat.talks.get('').excerpt.hasMore, false);
});

test('what is here already is not fetched', async () => {
  const w = setup({ room });
  for (const n of range(490, 500)) w.frame(msg(n));
  await w.chat.openAt('', id(495));
  assert.deepEqual(w.asked, []);
  assert.equal(w.chat.talks.get('').excerpt, null);
});

test('if it cannot be fetched, the talk is shown, and one is told', async () => {
  const w = setup({ room });
  w.frame(msg(500));
  w.broken = true;
  await w.chat.openAt('', id(100));
  assert.equal(w.chat.talks.get('').excerpt, null);
  assert.match(w.chat.notices.text, /could not be loaded/);
});

test('new messages come to the talk while an excerpt is shown', async () => {
  const w = setup({ room });
  w.frame(msg(500));
  await w.chat.openAt('', id(100));
  w.frame(msg(501));
  assert.deepEqual(w.ids(), [500, 501]);
  assert.ok(!shown(w).includes(501));
});
