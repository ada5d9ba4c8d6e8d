import assert from 'node:assert/strict';
import { test } from 'node:test';
import { id, msg, pass, settled, setup } from './world.mjs';

test('a message shows once, however often it comes', () => {
  const w = setup();
  for (const n of [2, 1, 2, 3, 1]) w.frame(msg(n));
  assert.deepEqual(w.ids(), [1, 2, 3]);
});

test('frames that are no use are skipped', () => {
  const w = setup();
  for (const text of ['', '{', 'null', '{"id":"a","content":"x"}', '{"frames":[{"chat":{}},{"chat":{"id":"a"}},{"unknown":{}}]}']) w.chat.frame(text);
  assert.deepEqual(w.ids(), []);
});

test('who writes is shown for a while, or until it is said', () => {
  const w = setup();
  w.batch({ typing: { client_id: 'bob', to_user: '' } }, { typing: { client_id: 'bob', to_user: 'me' } }, { typing: { client_id: 'me', to_user: '' } });
  assert.deepEqual(w.chat.people.writing(''), ['bob']);
  assert.deepEqual(w.chat.people.writing('bob'), ['bob']);
  w.frame(msg(1, 'bob'));
  assert.deepEqual(w.chat.people.writing(''), []);
  pass(5_000);
  assert.deepEqual(w.chat.people.writing('bob'), []);
});

test('others are told now and then that one writes', () => {
  const w = setup();
  pass(10_000);
  for (let i = 0; i < 5; i++) w.chat.writes('bob');
  assert.deepEqual(w.sent, [{ typing: { to_user: 'bob' } }]);
  pass(3_000);
  w.chat.writes('bob');
  assert.equal(w.sent.length, 2);
});

test('after a reconnect one is told how many messages are new', async () => {
  const w = setup();
  w.frame(msg(1));
  w.chat.closed();
  w.open([msg(1), msg(2), msg(3, 'me'), msg(4)], true);
  await settled();
  assert.deepEqual(w.chat.notices.caughtUp, { count: 2, lost: false });
  assert.deepEqual(w.asked, [], 'what was recovered is not asked for');
  pass(6_000);
  assert.equal(w.chat.notices.caughtUp, null);
});

test('one banner tells of private messages that may be lost', async () => {
  const w = setup();
  const back = (gap) => {
    w.chat.closed();
    w.batch({ welcome: { client_id: 'me', recovered: true, max_content_bytes: 4096, private_gap: gap, private_not_archived: true } }, { presence: { users: ['me'], total: 1 } });
    return settled();
  };
  assert.equal(w.chat.keepsPrivate, true);
  await back(true);
  assert.deepEqual([w.chat.notices.caughtUp, w.chat.notices.text, w.chat.keepsPrivate], [{ count: 0, lost: true }, null, false]);
  await back(false);
  assert.deepEqual(w.chat.notices.caughtUp, { count: 0, lost: false });
});

test('the place to resume at is the last message that came live', async () => {
  const w = setup({ room: [msg(1), msg(2)] });
  w.frame(msg(5));
  await w.chat.loadOlder('');
  w.write('a');
  w.ack(9);
  assert.equal(w.chat.since, id(5));
});

test('who left while one was away is not online afterwards', () => {
  const w = setup();
  w.batch({ status: { online: ['bob', 'carol'], offline: [], total: 3 } });
  w.batch({ status: { online: [], offline: ['carol'], total: 2 } });
  assert.deepEqual([...w.chat.online].sort(), ['bob', 'me']);
  assert.equal(w.chat.people.total, 2);
  w.chat.closed();
  w.open();
  assert.deepEqual([...w.chat.online], ['me']);
  w.batch({ status: { online: [], offline: ['me'], total: 0 } }); // our own old socket's end
  assert.ok(w.chat.online.has('me'));
});

test('more people can be online than the server names', () => {
  const w = setup();
  w.batch({ presence: { users: ['a', 'b'], total: 2000 } });
  assert.equal(w.chat.people.total, 2000);
});

test('history at first is not unread; what comes later elsewhere is', () => {
  const w = setup({ open: false });
  w.visible = false;
  w.open([msg(1)]);
  assert.equal(w.chat.unread, 0);
  w.frame(msg(2));
  w.frame(msg(3, 'me'));
  assert.equal(w.chat.unread, 1);
  w.visible = true;
  w.chat.seen();
  assert.equal(w.chat.unread, 0);
  assert.equal(w.chat.talks.get('').marker, id(2));
});

test('a private message makes a talk with an unread mark, and opening it clears the mark', async () => {
  const w = setup({ direct: [msg(1, 'me', 'x', 'bob'), msg(5, 'bob', 'y', 'me')] });
  w.frame(msg(5, 'bob', 'y', 'me'));
  assert.equal(w.chat.talks.get('bob').unread, 1);
  assert.deepEqual(w.remembered.get('talks'), ['bob']);
  w.chat.open('bob');
  assert.equal(w.chat.unread, 0);
  await w.chat.loadOlder('bob');
  assert.deepEqual(w.asked, [{ before: '', talk: 'bob' }]);
  assert.deepEqual(w.ids('bob'), [1, 5]);
  assert.equal(w.chat.unread, 0);
});

test('a message to another spelling of a name moves on to the talk with its user', () => {
  for (const ackFirst of [true, false]) {
    const w = setup();
    w.chat.open('ADA');
    w.write('hi', 'ADA');
    w.write('next', 'ADA');
    const { ref } = w.sent.at(-1).send;
    const ack = () => w.batch({ ack: { ref, id: id(1), sent_at: '2026-01-31T12:00:00Z' } });
    if (ackFirst) ack();
    w.frame({ ...msg(1, 'me', 'hi', 'Ada'), ref });
    if (!ackFirst) ack();
    assert.deepEqual([w.chat.active, w.ids('Ada'), w.chat.talks.has('ADA'), w.states()], ['Ada', [1], false, ['next:sending']]);
    w.ack(2);
    assert.deepEqual(w.ids('Ada'), [1, 2]);
    w.chat.open('bob');
    w.frame(msg(3, 'me', 'of another tab', 'Ada'));
    assert.equal(w.chat.active, 'bob', 'only what was written here moves on');
  }
});

test('private talks of earlier visits are listed, the latest news first', () => {
  const w = setup({ remembered: { talks: ['zoe', 'adam'] } });
  assert.deepEqual(w.chat.privateTalks.map((t) => t.key), ['adam', 'zoe']);
  w.frame(msg(1, 'zoe', 'hi', 'me'));
  assert.deepEqual(w.chat.privateTalks.map((t) => t.key), ['zoe', 'adam']);
});

test('a notice goes by itself, and a new one stays its full time', () => {
  const w = setup();
  w.chat.notices.say('one');
  pass(7_000);
  w.chat.notices.say('two');
  pass(7_000);
  assert.equal(w.chat.notices.text, 'two');
  pass(1_000);
  assert.equal(w.chat.notices.text, null);
});

test('who is away is shown as such, until back or gone', () => {
  const w = setup();
  w.batch({ presence: { users: ['me', 'bob', 'eve'], total: 3, away: ['bob'] } });
  const states = () => ['bob', 'eve', 'me', 'zoe'].map((name) => w.chat.stateOf(name)).join(' ');
  assert.equal(states(), 'away on on off');
  w.batch({ status: { online: [], offline: [], total: 3, away: ['eve'], back: ['bob'] } });
  assert.equal(states(), 'on away on off');
  w.batch({ status: { online: [], offline: ['eve'], total: 2 } });
  w.batch({ status: { online: ['eve'], offline: [], total: 3 } });
  assert.equal(states(), 'on on on off');
  w.chat.closed();
  assert.equal(w.chat.stateOf('bob'), '');
});

test('others are told when one leaves the screen, also on the next connection', () => {
  const w = setup();
  w.chat.leave(true);
  w.chat.closed();
  w.open();
  w.chat.leave(false);
  w.chat.closed();
  w.open();
  assert.deepEqual(w.sent.map((f) => f.activity.away), [true, true, false]);
});

test('names that the server does not tell are found by asking', async () => {
  const asked = [];
  const w = setup({ findUsers: async ({ q }) => (asked.push(q), { users: [{ name: 'zora', away: true }] }) });
  w.batch({ presence: { users: ['me', 'bob'], total: 1000 } });
  for (const q of ['z', 'zo', 'zor']) w.chat.people.look(q);
  pass(250);
  await settled();
  assert.deepEqual(asked, ['zor']);
  assert.deepEqual(w.chat.people.found, ['zora']);
  assert.equal(w.chat.stateOf('zora'), 'away');
  w.chat.people.look('');
  assert.deepEqual(w.chat.people.found, []);
  w.batch({ presence: { users: ['me', 'bob'], total: 2 } });
  w.chat.people.look('b');
  pass(250);
  assert.deepEqual(asked, ['zor'], 'when all are named nobody is asked');
});

test('unread mentions in the room are counted apart, and are read with the rest', () => {
  const w = setup();
  w.batch({ presence: { users: ['me', 'me too', 'bob'], total: 3 } });
  w.chat.open('bob');
  w.frame(msg(1, 'bob', 'hi'));
  w.frame(msg(2, 'bob', 'look @me'));
  w.frame(msg(3, 'bob', '@me too, and @nobody'));
  w.frame(msg(4, 'me', '@me'));
  const room = w.chat.talks.get('');
  assert.deepEqual([room.unread, room.called], [3, 1]);
  w.chat.open('');
  assert.deepEqual([room.unread, room.called], [0, 0]);
});

test('who was seen anywhere is a member', async () => {
  const w = setup({ room: [msg(1, 'early')], remembered: { talks: ['friend'] } });
  w.batch({ presence: { users: ['me', 'here'], total: 2 } }, { status: { online: ['came'], total: 3 } });
  w.frame(msg(9, 'wrote'));
  await w.chat.loadOlder('');
  for (const name of ['me', 'friend', 'here', 'came', 'wrote', 'early']) assert.ok(w.chat.members.mentions(`@${name}`, name), name);
  assert.equal(w.chat.members.find('@nobody @global').length, 0);
});
