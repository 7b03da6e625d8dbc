// Short messages: a toast that may carry one action, and the polite live region screen readers hear.
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { keyLabel } from "./keys.ts";
import { t } from "./i18n.ts";

interface Toast { id: number; text: string; action?: { label: string; key?: string; run: () => void }; tone: "plain" | "error" }
const toast = signal<Toast | null>(null);
const spoken = signal("");
let timer = 0;
let ids = 0;

/** For screen readers only. */
export function announce(text: string): void {
  spoken.value = spoken.value === text ? text + "\u00a0" : text;
}

export function say(text: string, o: { action?: Toast["action"]; tone?: Toast["tone"]; ms?: number } = {}): void {
  clearTimeout(timer);
  const id = ++ids;
  toast.value = { id, text, tone: o.tone ?? "plain", ...(o.action ? { action: o.action } : {}) };
  announce(text);
  timer = window.setTimeout(() => { if (toast.value?.id === id) toast.value = null; }, o.ms ?? (o.tone === "error" ? 12_000 : 6000));
}
export const complain = (text: string): void => say(text, { tone: "error" });
export function hush(): void { toast.value = null; }

export function Announcements(): JSX.Element {
  const m = toast.value;
  return (
    <>
      <div class="spoken" role="status" aria-live="polite">{spoken.value}</div>
      {m && (
        <div class={`toast ${m.tone}`} key={m.id}>
          <span>{m.text}</span>
          {m.action && (
            <button type="button" onClick={() => { hush(); m.action!.run(); }}>
              {m.action.label}{m.action.key && <kbd aria-hidden="true">{keyLabel(m.action.key)}</kbd>}
            </button>
          )}
          <button type="button" class="dismiss" aria-label={t("close")} onClick={hush}>×</button>
        </div>
      )}
    </>
  );
}
