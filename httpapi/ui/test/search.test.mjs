import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Search, snippet } from '../store/search.js';
import { msg, pass, range, settled } from './world.mjs';

// finder returns a Search in an archive of n messages that all match.
function finder(n, { broken = false } = {}) {
  const world = { asked: [], broken };
  world.search = new Search({
    changed: () => {},
    find: async (page) => {
      world.asked.push(page);
      if (world.broken) throw new Error('down');
      const all = range(1, n).map((i) => msg(i)).reverse().filter((m) => page.before === '' || m.id < page.before);
      return { messages: all.slice(0, page.limit), has_more: all.length > page.limit, behind: 0 };
    },
  });
  return world;
}

test('the server is asked once one stops typing', async () => {
  const w = finder(5);
  for (const q of ['a', 'ap', 'apple ']) {
    w.search.type(q);
    pass(100);
  }
  assert.deepEqual(w.asked, []);
  pass(150);
  await settled();
  assert.deepEqual(w.asked, [{ q: 'apple', before: '', talk: null, limit: 30 }]);
  assert.equal(w.search.hits.length, 5);
});

test('more hits come page by page, each once', async () => {
  const w = finder(70);
  w.search.type('a');
  pass(250);
  await settled();
  await w.search.more();
  await w.search.more();
  await w.search.more();
  assert.equal(new Set(w.search.hits.map((m) => m.id)).size, 70);
  assert.equal(w.search.hits.length, 70);
  assert.equal(w.asked.length, 3);
});

test('what an earlier search brings too late is not shown', async () => {
  const w = finder(5);
  let answer;
  w.search.find = () => new Promise((resolve) => (answer = resolve));
  w.search.type('old');
  pass(250);
  w.search.type('');
  answer({ messages: [msg(1)], has_more: false });
  await settled();
  assert.deepEqual(w.search.hits, []);
  assert.equal(w.search.loading, false);
});

test('a server that is behind is asked again, and what it finds then replaces the rest', async () => {
  const w = finder(0);
  let behind = 2;
  w.search.find = async (page) => (w.asked.push(page), { messages: range(1, 3 - behind).map((n) => msg(n)), has_more: false, behind: behind-- });
  w.search.type('a');
  pass(250);
  await settled();
  assert.equal(w.search.hits.length, 1);
  pass(2_000);
  await settled();
  pass(2_000);
  await settled();
  pass(60_000);
  assert.deepEqual(w.search.hits.map((m) => m.content), ['m1', 'm2', 'm3']);
  assert.equal(w.asked.length, 3);
});

test('trouble is told, and another try works', async () => {
  const w = finder(5, { broken: true });
  w.search.type('a');
  pass(250);
  await settled();
  assert.equal(w.search.trouble, 'down');
  w.broken = false;
  w.search.within('bob');
  pass(250);
  await settled();
  assert.equal(w.search.trouble, '');
  assert.equal(w.asked.at(-1).talk, 'bob');
});

test('a snippet shows the hit, and no half characters', () => {
  const shown = (content, marks) => snippet(content, marks).map((p) => (p.hit ? `[${p.text}]` : p.text)).join('');
  assert.equal(shown('one two three', [[4, 7]]), 'one [two] three');
  assert.equal(shown('one two', [[0, 3], [4, 7]]), '[one] [two]');
  const long = `${'😀'.repeat(200)}needle${'😀'.repeat(200)}`;
  const cut = shown(long, [[400, 406]]);
  assert.ok(cut.startsWith('…😀') && cut.endsWith('😀…') && cut.includes('[needle]') && cut.isWellFormed());
  assert.equal(shown('x'.repeat(1000), [[0, 1000]]), `[${'x'.repeat(180)}]…`);
  for (const marks of [undefined, [], [[5, 2]], [[-1, 3]], [[0, 99]]]) assert.equal(shown('abc', marks), 'abc');
});
