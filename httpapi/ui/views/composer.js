// Where one writes, and the notices about what was written.
import { html, useLayoutEffect, useRef, useState } from '../lib/html.js';
import { commandOf, enterSends, holdsFiles } from '../lib/input.js';
import { clean, ROOM } from '../store/messages.js';
import { NO_FILES } from '../store/notices.js';
import { Icon, touch } from './parts.js';

/**
 * Composer writes to a talk of chat. What is typed belongs to the talk: it waits
 * there while another one is open. Without a connection it is kept in the outbox
 * until there is one.
 */
export function Composer({ chat, talk }) {
  const area = useRef();
  const [blank, setBlank] = useState(true);

  const grow = () => {
    const el = area.current;
    el.style.height = 'auto';
    el.style.height = `${el.scrollHeight + el.offsetHeight - el.clientHeight}px`;
  };
  const put = (text) => {
    area.current.value = text;
    setBlank(clean(text) === '');
    grow();
  };
  useLayoutEffect(() => {
    put(chat.drafts.get(talk.key));
    if (chat.notices.action) chat.notices.dismiss(); // it was about another text
    if (!touch()) area.current.focus();
  }, [chat, talk.key]);
  // Another tab may have written, or sent what was written here.
  useLayoutEffect(() => {
    const text = chat.drafts.get(talk.key);
    if (text !== area.current.value) put(text);
  });

  const onInput = () => {
    const text = area.current.value;
    if (chat.notices.action) chat.notices.dismiss();
    chat.drafts.set(talk.key, text); // while it is composed too, or the text would be taken back
    setBlank(clean(text) === '');
    grow();
    if (clean(text) !== '') chat.writes(talk.key);
  };
  const send = (e, asText = false) => {
    e?.preventDefault();
    const text = clean(area.current.value);
    if (text === '') return;
    const command = asText ? '' : commandOf(text);
    if (command) {
      chat.notices.say(`${command} is no command here.`, { label: 'Send as text', run: () => send(null, true) });
      return;
    }
    if (asText) chat.notices.dismiss();
    const bytes = new TextEncoder().encode(text).length;
    if (chat.maxBytes > 0 && bytes > chat.maxBytes) {
      chat.notices.say(`This message is too long: it has ${bytes} bytes, ${chat.maxBytes} are allowed. Please send it in smaller parts.`);
      return;
    }
    chat.drafts.set(talk.key, '');
    put('');
    talk.marker = null; // who answers has read
    chat.outbox.add(talk.key, text);
    area.current.focus();
  };
  const onKeyDown = (e) => {
    if (!enterSends(e, touch())) return;
    e.preventDefault();
    send();
  };
  const onPaste = (e) => {
    if (!holdsFiles(e.clipboardData)) return;
    e.preventDefault();
    chat.notices.say(NO_FILES);
  };
  const label = talk.key === ROOM ? 'Message to everyone' : `Message to ${talk.key}`;
  return html`<div class="foot">
    <div role="alert">${chat.notices.text && html`<div class="notice" data-testid="notice">
      <span>${chat.notices.text}</span>
      ${chat.notices.action && html`<button type="button" class="action" data-testid="notice-action" onClick=${chat.notices.action.run}>${chat.notices.action.label}</button>`}
      <button type="button" class="iconbutton" aria-label="Dismiss" onClick=${() => chat.notices.dismiss()}><${Icon} name="close" /></button>
    </div>`}</div>
    <${Typing} names=${chat.people.writing(talk.key)} />
    <form class="composer" onSubmit=${send}>
      <textarea ref=${area} data-testid="composer" rows="1" aria-label=${label} placeholder=${label} enterkeyhint=${touch() ? 'enter' : 'send'}
        onInput=${onInput} onKeyDown=${onKeyDown} onPaste=${onPaste}></textarea>
      <button class="send" data-testid="send" aria-label="Send" disabled=${blank} title=${chat.connected ? (touch() ? 'Send' : 'Send (Enter)') : 'Sent as soon as there is a connection'}
        onMouseDown=${(e) => e.preventDefault()}><${Icon} name="send" /></button>
    </form>
  </div>`;
}

// Typing says who is writing. It is no live region: it would interrupt all the time.
function Typing({ names }) {
  const [first, second] = names;
  return html`<p class="typing" data-testid="typing">${
    names.length === 1
      ? html`<bdi>${first}</bdi> is typing…`
      : names.length === 2
        ? html`<bdi>${first}</bdi> and <bdi>${second}</bdi> are typing…`
        : names.length > 2 && 'Several people are typing…'
  }</p>`;
}
