// What a labeler did, on its way to the server: kept on this device first, sent in order, never twice (each carries its own id), never lost.
import { signal } from "@preact/signals";
import { ApiError, call } from "./api.ts";
import { all, drop, keep } from "./store.ts";

interface Item { key: string; user: string; method: "POST" | "PUT"; path: string; body: unknown; record: string }

/** Things done that the server has not confirmed. */
export const waiting = signal(0);
/** The last attempt found no server. */
export const stuck = signal(false);
/** Why the server refused something for good. */
export const refused = signal<{ message: string; record: string } | null>(null);

let owner = "";
let sending: Promise<void> | null = null;
let retryTimer = 0;
let delay = 1000;
let sequence = 0;
const listeners = new Map<string, (reply: unknown) => void>();

const mine = async (): Promise<Item[]> => (await all<Item>("outbox")).filter((i) => i.user === owner);

export async function openOutbox(user: string): Promise<void> {
  owner = user;
  waiting.value = (await mine()).length;
  if (waiting.value) void flush();
}

/** Keeps the request, then sends it as soon as there is a way. `done` hears the server's reply. Returns the key, by which it can be taken back while unsent. */
export async function send(method: "POST" | "PUT", path: string, body: unknown, record: string, done?: (reply: never) => void): Promise<string> {
  const key = `${String(Date.now()).padStart(15, "0")}-${String(sequence++).padStart(6, "0")}`;
  if (done) listeners.set(key, done as (reply: unknown) => void);
  waiting.value++;
  await keep("outbox", key, { key, user: owner, method, path, body, record } satisfies Item);
  void flush();
  return key;
}

let inFlight = "";
/** Takes an unsent item back; false when it left already. */
export async function takeBack(key: string): Promise<boolean> {
  if (key === inFlight || !(await mine()).some((i) => i.key === key) || key === inFlight) return false;
  await drop("outbox", key);
  listeners.delete(key);
  waiting.value = Math.max(0, waiting.value - 1);
  return true;
}

async function attempt(item: Item): Promise<boolean> {
  inFlight = item.key;
  try {
    const reply = await call<unknown>(item.method, item.path, { body: item.body });
    listeners.get(item.key)?.(reply);
  } catch (e) {
    if (!(e instanceof ApiError)) throw e;
    if (e.offline || e.status === 401 || e.status === 429 || e.status >= 500) return false;
    refused.value = { message: e.message, record: item.record };
  } finally {
    inFlight = "";
  }
  await drop("outbox", item.key);
  listeners.delete(item.key);
  return true;
}

async function drain(): Promise<void> {
  for (;;) {
    const items = await mine();
    waiting.value = items.length;
    if (!items.length) { stuck.value = false; delay = 1000; return; }
    if (!(await attempt(items[0]!))) {
      stuck.value = true;
      clearTimeout(retryTimer);
      retryTimer = window.setTimeout(() => void flush(), delay);
      delay = Math.min(delay * 2, 30_000);
      return;
    }
    stuck.value = false;
    delay = 1000;
  }
}

/** Sends what waits; one tab at a time. */
export function flush(): Promise<void> {
  sending ??= (navigator.locks ? navigator.locks.request("podium.outbox", drain) as Promise<void> : drain())
    .finally(async () => {
      sending = null;
      if (!stuck.value && (await mine()).length) void flush();
    });
  return sending;
}
addEventListener("online", () => { delay = 1000; void flush(); });
addEventListener("offline", () => { if (waiting.value) stuck.value = true; });
