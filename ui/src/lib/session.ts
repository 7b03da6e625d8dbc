// Who is signed in. null = nobody; undefined = not known yet.
import { signal } from "@preact/signals";
import { ApiError, del, get, post, whenSignedOut } from "./api.ts";
import { chosenKeys } from "./keys.ts";
import type { Me } from "./types.ts";

export const me = signal<Me | null | undefined>(undefined);
/** The session ended while somebody was at work: the page stays, a dialog asks to sign in again. */
export const expired = signal(false);
export const bootError = signal<string | null>(null);

whenSignedOut(() => {
  if (me.value) expired.value = true;
  else me.value = null;
});

function arrive(who: Me): void {
  chosenKeys.value = who.keys ?? {};
  me.value = who;
}

export async function loadMe(): Promise<void> {
  bootError.value = null;
  try {
    arrive(await get<Me>("/me"));
  } catch (e) {
    if (e instanceof ApiError && e.status === 401) me.value = null;
    else bootError.value = e instanceof Error ? e.message : String(e);
  }
}

export async function signIn(body: { username: string; password: string } | { token: string }): Promise<void> {
  arrive(await post<Me>("/session", body));
  expired.value = false;
}

export async function signOut(): Promise<void> {
  await del("/session").catch(() => {});
  me.value = null;
  expired.value = false;
}
