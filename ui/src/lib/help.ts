// The help sheet is a chunk of its own, fetched when the page is idle: it must open offline too.
import { signal } from "@preact/signals";
import type { Scope } from "./commands.ts";
import { activeScopes } from "./keys.ts";

export const helpFor = signal<Scope[] | null>(null);
export function openHelp(): void { helpFor.value = activeScopes.value; }
