// Fetching what was said before: pages of the archive, and what was missed.
import { isChat } from '../connection/wire.js';
import { merge } from './messages.js';

const PAGE = 100; // messages asked for at a time
const AGAIN = 5_000; // ms before a gap is tried again
const RECALLED = 20; // private talks whose last messages are fetched at first
const RECALL = 30; // messages of each
const BEHIND = 2_000; // ms before a server that did not look at everything is asked again
const GAP_PAGES = 20; // pages fetched to close a gap before giving up on it

/** loadOlder fetches the page before the oldest message of a talk, or of its excerpt. */
export async function loadOlder(chat, key) {
  const talk = chat.talks.get(key);
  const list = talk?.excerpt ?? talk;
  if (!list || list.loading || list.hasMore === false) return;
  list.loading = true;
  list.trouble = '';
  chat.changed();
  try {
    // A private talk is asked for from its newest message the first time: live
    // messages may have come in before it was opened, with a hole before them.
    const before = key !== '' && list.hasMore === null ? '' : (list.messages[0]?.id ?? '');
    const page = await chat.history({ before, talk: key, limit: PAGE });
    if (chat.stopped) return;
    list.hasMore = Boolean(page.has_more);
    if (list === talk) chat.take(key, page.messages ?? [], { live: false });
    else list.messages = merge(list.messages, (page.messages ?? []).filter(isChat)).list;
  } catch (err) {
    list.trouble = err.message;
  } finally {
    list.loading = false;
    chat.changed();
  }
}

/**
 * fillGap fetches backwards from `before` ('' is the newest) until it meets `after`,
 * the last message known from before the connection broke (null: there was none).
 */
export async function fillGap(chat, key, after, before) {
  const talk = chat.talks.get(key);
  let oldest = before;
  try {
    for (let i = 0; i < GAP_PAGES; i++) {
      const page = await chat.history({ before: oldest, talk: key, limit: PAGE });
      if (chat.stopped) return;
      const messages = page.messages ?? [];
      chat.take(key, messages, { live: true });
      if (messages.length === 0 || !page.has_more) return;
      oldest = messages[0].id;
      if (after === null) return; // a talk that was empty: older pages on demand
      if (oldest <= after) return;
    }
  } catch (err) {
    if (chat.stopped) return;
    chat.notices.say('Some messages that you missed could not be loaded. Scroll up to try again.');
    if (key === '' && oldest === '') {
      // Nothing of the room has come since; what comes would follow a hole.
      setTimeout(() => !chat.stopped && fillGap(chat, key, after, ''), AGAIN);
      return;
    }
    if (key !== '') {
      // Nothing is let go here: the archive may not keep private talks.
      talk.hasMore = null;
      talk.trouble = err.message;
      return;
    }
  }
  // Too far, or it failed. A list with a hole would be a lie: what lies before
  // the hole goes, and comes back with the rest when one scrolls up.
  talk.messages = talk.messages.filter((m) => m.id >= oldest);
  talk.hasMore = true;
  chat.changed();
}

// discover returns with whom there are private talks in the archive, the latest first,
// and adds them to the list: others may have begun one while nobody was here. What was said
// in the last second may be missing: then it looks once more.
async function discover(chat, first) {
  try {
    const { conversations, behind } = await chat.conversations();
    if (chat.stopped) return [];
    if (behind > 0 && !chat.lookedAgain) {
      chat.lookedAgain = true;
      setTimeout(() => !chat.stopped && recall(chat, first), BEHIND);
    }
    const keys = conversations.map((c) => c.with).filter((key) => typeof key === 'string' && key !== '');
    for (const key of keys) chat.talk(key);
    return keys;
  } catch {
    return []; // those that the browser remembers are there
  }
}

/**
 * recall fetches the last messages of the private talks of earlier visits: what the
 * list shows of them, and what has come since. What was said before the first visit
 * with this browser is not unread.
 */
export async function recall(chat, first = false) {
  const found = await discover(chat, first);
  const keys = [...new Set([...found, ...chat.talks.keys()])].filter((key) => key !== '' && chat.talks.get(key).messages.length === 0);
  for (const key of keys.slice(0, RECALLED)) {
    const talk = chat.talks.get(key);
    if (talk.loading || talk.hasMore !== null) continue; // it was opened meanwhile
    try {
      const page = await chat.history({ talk: key, limit: RECALL });
      if (chat.stopped) return;
      if (talk.hasMore !== null) continue;
      talk.hasMore = Boolean(page.has_more);
      chat.take(key, page.messages ?? [], { live: false });
      if (first && talk.messages.length > 0 && !chat.read.has(key)) chat.read.advance(key, talk.messages.at(-1).id);
      chat.recount(key);
    } catch {
      return; // it is fetched when it is opened
    }
  }
}
