// Desktop notifications and the sound, as browsers have them.

/** canNotify tells whether this browser has notifications for this page. */
export const canNotify = () => 'Notification' in globalThis && globalThis.isSecureContext;

/** askToNotify asks the person, and resolves to whether they allow it. */
export async function askToNotify() {
  if (!canNotify()) return false;
  if (Notification.permission !== 'default') return Notification.permission === 'granted';
  return (await Notification.requestPermission()) === 'granted';
}

/** notify shows one notification; the same tag is shown once. */
export function notify({ title, body, tag, open }) {
  if (!canNotify() || Notification.permission !== 'granted') return;
  try {
    const note = new Notification(title, { body, tag, icon: new URL('../icon.svg', import.meta.url).href });
    note.onclick = () => {
      window.focus();
      open();
      note.close();
    };
  } catch {
    // Phones want a service worker for it, which this page has not.
  }
}

let audio = null;

/** chime plays two soft notes. They are computed: there is no file to load. */
export function chime() {
  try {
    audio ??= new AudioContext();
    audio.resume();
    for (const [at, pitch] of [[0, 587.33], [0.12, 880]]) {
      const from = audio.currentTime + at;
      const tone = audio.createOscillator();
      const loud = audio.createGain();
      tone.frequency.value = pitch;
      loud.gain.setValueAtTime(0.0001, from);
      loud.gain.exponentialRampToValueAtTime(0.12, from + 0.015);
      loud.gain.exponentialRampToValueAtTime(0.0001, from + 0.35);
      tone.connect(loud).connect(audio.destination);
      tone.start(from);
      tone.stop(from + 0.4);
    }
  } catch {
    // No sound on this machine, or none before the first click.
  }
}
