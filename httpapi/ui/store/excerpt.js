// A part of a talk from long ago, shown instead of its end. It is one with the talk
// again as soon as it reaches what is already here.
import { isChat } from '../connection/wire.js';
import { merge } from './messages.js';
import { indexOf } from './window.js';

const AROUND = 40; // messages fetched on each side
const PAGE = 50;
const FIRST = '00000000-0000-0000-0000-000000000000'; // before every id

/** openAt opens a talk of chat at the message id. */
export async function openAt(chat, key, id) {
  chat.open(key);
  const talk = chat.talks.get(key);
  chat.atBottom = false;
  if (talk.messages[indexOf(talk.messages, id)]?.id === id) {
    talk.target = { id };
    chat.changed();
    return;
  }
  const excerpt = { messages: [], hasMore: true, hasNewer: true, loading: true, trouble: '' };
  talk.excerpt = excerpt;
  chat.changed();
  try {
    const before = await chat.history({ before: id, talk: key, limit: AROUND });
    const older = (before.messages ?? []).filter(isChat);
    // From the one before it, so that the message itself is the first.
    const after = await chat.history({ after: older.at(-1)?.id ?? FIRST, talk: key, limit: AROUND });
    if (chat.stopped || talk.excerpt !== excerpt) return;
    excerpt.hasMore = Boolean(before.has_more);
    excerpt.messages = older;
    talk.target = { id };
    extend(chat, talk, after);
  } catch (err) {
    if (talk.excerpt !== excerpt) return;
    talk.excerpt = null;
    chat.notices.say(`That message could not be loaded. ${err.message}`);
  } finally {
    excerpt.loading = false;
    chat.changed();
  }
}

/** loadNewer fetches the page after the excerpt of a talk. */
export async function loadNewer(chat, key) {
  const talk = chat.talks.get(key);
  const excerpt = talk?.excerpt;
  if (!excerpt || excerpt.loading || excerpt.messages.length === 0) return;
  excerpt.loading = true;
  try {
    const page = await chat.history({ after: excerpt.messages.at(-1).id, talk: key, limit: PAGE });
    if (!chat.stopped && talk.excerpt === excerpt) extend(chat, talk, page);
  } catch {
    // It is tried again when one scrolls on.
  } finally {
    excerpt.loading = false;
    chat.changed();
  }
}

// extend adds the page after an excerpt, and joins it with the talk when they meet.
function extend(chat, talk, page) {
  const { excerpt } = talk;
  excerpt.messages = merge(excerpt.messages, (page.messages ?? []).filter(isChat)).list;
  for (const msg of excerpt.messages) chat.members.add(msg.sender);
  excerpt.hasNewer = Boolean(page.has_more);
  const reached = excerpt.messages.at(-1)?.id ?? '';
  const begins = talk.messages[0]?.id;
  if (excerpt.hasNewer && (begins === undefined || reached < begins)) return;
  talk.messages = merge(talk.messages, excerpt.messages).list;
  talk.hasMore = excerpt.hasMore;
  talk.excerpt = null;
  chat.changed();
}
