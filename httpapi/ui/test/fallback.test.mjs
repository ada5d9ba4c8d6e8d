// What stands in for a WebSocket where none gets through.
import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { carrier } from '../connection/carrier.js';
import { BUSY, eventsURL, parser } from '../connection/events.js';
import { Slots } from '../lib/slots.js';

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
});

// world has the transports as a test moves them: the attempts in the order in which they were made.
function world() {
  const w = { attempts: [], told: [], kept: new Map() };
  const fake = (kind, patience) => ({ patience, open: (url, handlers) => {
    const attempt = { kind, ...handlers, sent: [], over: false };
    attempt.link = { send: (text) => (attempt.sent.push(text), true), close: () => { attempt.over = true; } };
    w.attempts.push(attempt);
    return attempt.link;
  } });
  const ways = [fake('socket', 5_000), fake('events', 4_000), fake('polls', 12_000)];
  const storage = { getItem: (key) => w.kept.get(key) ?? null, setItem: (key, text) => w.kept.set(key, text), removeItem: (key) => w.kept.delete(key) };
  let transport;
  w.load = () => { transport = carrier(ways, () => storage); };
  w.load();
  w.open = () => transport('ws://x/ws/me', {
    opened: () => w.told.push('opened'),
    received: (text) => w.told.push(text),
    closed: ({ code, reason }) => w.told.push(`closed ${code} ${reason}`.trim()),
  });
  w.kinds = () => w.attempts.map((a) => a.kind);
  return w;
}

test('a WebSocket that gets through is taken', () => {
  const w = world();
  const link = w.open();
  w.attempts[0].opened();
  assert.deepEqual(w.told, [], 'it is open when the server has said something');
  w.attempts[0].received('hello');
  mock.timers.tick(3_600_000);
  link.send('x');
  w.attempts[0].closed({ code: 1006, reason: '' });
  assert.deepEqual(w.told, ['opened', 'hello', 'closed 1006']);
  assert.deepEqual(w.kinds(), ['socket']);
});

test('events stand in for one that is refused or swallowed, also the next time', () => {
  for (const fail of [(a) => a.closed({ code: 1006, reason: '' }), () => mock.timers.tick(5_000)]) {
    const w = world();
    w.open();
    fail(w.attempts[0]);
    assert.ok(w.attempts[0].over);
    w.attempts[1].opened();
    w.attempts[1].received('hello');
    w.attempts[1].closed({ code: 1012, reason: 'retry-ms=5' });
    assert.deepEqual(w.told, ['opened', 'hello', 'closed 1012 retry-ms=5']);
    w.open();
    assert.deepEqual(w.kinds(), ['socket', 'events', 'events']);
    w.attempts[2].closed({ code: 1006, reason: '' });
    w.attempts[3].closed({ code: 1006, reason: '' });
    w.open();
    assert.deepEqual(w.kinds().slice(3), ['polls', 'socket'], 'when those fail too, it may be the other way round');
  }
});

test('when none gets through, that is one failure', () => {
  const w = world();
  w.open();
  w.attempts[0].closed({ code: 1006, reason: '' });
  w.attempts[1].closed({ code: 1006, reason: '' });
  mock.timers.tick(12_000);
  mock.timers.tick(3_600_000);
  assert.deepEqual(w.told, ['closed 1006']);
  assert.equal(w.attempts.length, 3);
  assert.ok(w.attempts[2].over);
});

test('what the server says is no reason to fall back', () => {
  const w = world();
  w.open();
  w.attempts[0].closed({ code: 4401, reason: 'the session has expired' });
  assert.deepEqual(w.told, ['closed 4401 the session has expired']);
  assert.equal(w.attempts.length, 1);
});

test('a WebSocket is tried again now and then, and taken when it gets through', () => {
  const w = world();
  w.open();
  w.attempts[0].closed({ code: 1006, reason: '' });
  w.attempts[1].received('hello');
  mock.timers.tick(60_000);
  assert.deepEqual(w.kinds(), ['socket', 'events', 'socket']);
  w.attempts[2].closed({ code: 1006, reason: '' });
  mock.timers.tick(119_999);
  assert.equal(w.attempts.length, 3);
  mock.timers.tick(1);
  w.attempts[3].opened();
  w.attempts[3].received('welcome');
  assert.deepEqual(w.told, ['opened', 'hello', 'closed 1012 retry-ms=0']);
  assert.ok(w.attempts[1].over && w.attempts[3].over);
  w.open();
  assert.equal(w.kinds()[4], 'socket');
});

test('polls stand in for a stream that is held back, until a stream gets through', () => {
  const w = world();
  w.open();
  w.attempts[0].closed({ code: 1006, reason: '' });
  w.attempts[1].opened();
  mock.timers.tick(4_000);
  assert.ok(w.attempts[1].over, 'a stream without a word is none');
  w.attempts[2].received('hello');
  assert.deepEqual(w.told, ['opened', 'hello']);
  mock.timers.tick(60_000);
  w.attempts[3].closed({ code: 1006, reason: '' });
  assert.deepEqual(w.kinds(), ['socket', 'events', 'polls', 'socket', 'events']);
  mock.timers.tick(4_000); // held back again
  assert.ok(w.attempts[4].over);
  mock.timers.tick(120_000);
  w.attempts[5].closed({ code: 1006, reason: '' });
  w.attempts[6].received('welcome');
  assert.deepEqual(w.told, ['opened', 'hello', 'closed 1012 retry-ms=0']);
  assert.ok(w.attempts[2].over && w.attempts[6].over);
  w.open();
  assert.equal(w.kinds().at(-1), 'events');
});

test('two tabs of a browser hold streams, and a slot that is given back is taken', () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
  const slots = new Slots(() => storage);
  const [one, two] = [slots.take('one'), slots.take('two')];
  assert.ok(one && two);
  assert.equal(slots.take('three'), null);
  one();
  const lost = [];
  assert.ok(slots.take('three', () => lost.push('three')));
  // A tab that took the last slot in the same moment has overwritten the others.
  kept.set('burrow.streams', JSON.stringify({ four: Date.now() + 60_000, five: Date.now() + 60_000 }));
  mock.timers.tick(30_000);
  assert.deepEqual(lost, ['three']);
  // Leases of tabs that crashed run out; nonsense and a forbidden storage give no slot and no error.
  kept.set('burrow.streams', JSON.stringify({ four: Date.now() - 1, five: Date.now() + 9e9 }));
  assert.ok(slots.take('six'));
  assert.equal(new Slots(() => { throw new Error('forbidden'); }).take('x'), null);
  for (const text of ['{', '7', '[]', 'null']) {
    kept.set('burrow.streams', text);
    slots.take('seven')?.();
  }
});

test('the next page begins with the way that got through, for an hour', () => {
  const w = world();
  w.open();
  w.attempts[0].closed({ code: 1006, reason: '' });
  w.attempts[1].received('hello');
  w.load();
  w.open();
  assert.equal(w.kinds().at(-1), 'events');
  // A way passed over because of other tabs is not remembered.
  w.attempts.at(-1).closed({ code: 1006, reason: BUSY });
  w.attempts.at(-1).received('hello');
  assert.equal(w.kinds().at(-1), 'polls');
  w.load();
  w.open();
  assert.equal(w.kinds().at(-1), 'events');
  // A WebSocket that gets through makes an end of it, as do nonsense and time.
  mock.timers.tick(60_000);
  w.attempts.at(-1).received('welcome');
  assert.equal(w.kept.size, 0);
  for (const text of ['{', '7', 'null', '{"way":9,"until":9e15}', '{"way":-1}', `{"way":1,"until":${Date.now() - 1}}`, '{"way":1,"until":9e15}']) {
    w.kept.set('burrow.way', text);
    w.load();
    w.open();
    assert.equal(w.kinds().at(-1), 'socket', text);
  }
});

test('nothing is told after close', () => {
  const w = world();
  const link = w.open();
  w.attempts[0].closed({ code: 1006, reason: '' });
  w.attempts[1].received('hello');
  link.close();
  w.attempts[1].closed({ code: 1006, reason: '' });
  mock.timers.tick(3_600_000);
  assert.deepEqual(w.told, ['opened', 'hello']);
  assert.equal(link.send('x'), false);
  assert.equal(w.attempts.length, 2);
});

test('events are read in whatever pieces they come', () => {
  const text = 'id: 7\ndata: {"a":"b: c"}\n\n:\n\nretry: 5\nevent: close\ndata: {"code":1012}\n\n';
  for (let size = 1; size <= text.length; size++) {
    const got = [];
    const read = parser({ event: (e) => got.push({ ...e }), beat: () => got.push('beat') });
    for (let i = 0; i < text.length; i += size) read(text.slice(i, i + size));
    assert.deepEqual(got, [{ id: '7', data: '{"a":"b: c"}' }, 'beat', { retry: '5', event: 'close', data: '{"code":1012}' }]);
  }
});

test('the address of the events is that of the WebSocket', () => {
  const { base, query } = eventsURL('wss://chat.example:8443/ws/Zo%C3%AB%20%26?since=1');
  assert.equal(base, 'https://chat.example:8443/');
  assert.equal(query.get('client_id'), 'Zoë &');
  assert.equal(query.get('since'), '1');
  assert.equal(eventsURL('ws://host/ws/chat/ws/bob').base, 'http://host/ws/chat/');
  assert.equal(eventsURL('ws://host/chat/ws/bob').query.get('client_id'), 'bob');
});
