// The keyboard: one table of commands, scopes that screens switch on, and the rules about when a key is not ours.
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { COMMANDS, type Command, type CommandId, type Scope } from "./commands.ts";

type Handler = () => void;
interface Layer { scope: Scope; handlers: Partial<Record<CommandId, Handler>> }

const layers: Layer[] = [];
export const activeScopes = signal<Scope[]>([]);
export const singleKeys = signal(localStorage.getItem("podium.singlekeys") !== "off");
let guardUntil = 0;
let guardTimer = 0;

/** The keys a person chose, each in place of a command's first one. */
export const chosenKeys = signal<Record<string, string>>({});
/** What calls a command now; the first stands on its buttons. */
export function keysOf(id: CommandId): string[] {
  const mine = chosenKeys.value[id];
  const keys = COMMANDS[id].keys;
  return mine ? [mine, ...keys.slice(1)] : keys;
}

export function setSingleKeys(on: boolean): void {
  singleKeys.value = on;
  localStorage.setItem("podium.singlekeys", on ? "on" : "off");
}

/** Called when a new task is painted: a key held or pressed twice must not answer it. */
export function guard(ms = 150): void {
  guardUntil = performance.now() + ms;
  document.documentElement.toggleAttribute("data-guarded", true);
  clearTimeout(guardTimer);
  guardTimer = window.setTimeout(() => document.documentElement.removeAttribute("data-guarded"), ms);
}

const isMac = /mac|iphone|ipad/i.test(navigator.platform);
export function keyLabel(key: string): string {
  return key.split("+").map((p, i) => i > 0 && p.length === 1 ? p.toUpperCase() : p).map((p) => (p === "Mod" ? (isMac ? "⌘" : "Ctrl") : p === "Enter" && isMac ? "⏎" : p === "Up" ? "↑" : p === "Down" ? "↓"
    : p === "Left" ? "←" : p === "Right" ? "→" : p)).join(" ");
}
/** The same as `aria-keyshortcuts` wants it. */
export const ariaKeys = (id: CommandId): string =>
  keysOf(id).map((k) => k.replace("Mod", "Control").replace(/\b(Up|Down|Left|Right)\b/, "Arrow$1")).join(" ");

/** "Mod+z", "Shift+T", "3", "Alt+Up": digits by physical key, letters by what they write. */
export function nameOf(e: KeyboardEvent): string {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(e.code);
  const arrow = /^Arrow(.+)$/.exec(e.key);
  const base = digit && !e.shiftKey ? digit[1]! : arrow ? arrow[1]! : e.key === " " ? "Space" : e.key;
  const mods = (e.ctrlKey || e.metaKey ? "Mod+" : "") + (e.altKey ? "Alt+" : "");
  const shifted = e.shiftKey && (base.length > 1 || mods !== "" || /^[a-z]$/i.test(base)) ? "Shift+" : "";
  const letter = /^[a-z]$/i.test(base) ? (shifted && mods === "" ? base.toUpperCase() : base.toLowerCase()) : base;
  return mods + shifted + letter;
}

const isField = (el: Element | null): boolean =>
  el instanceof HTMLElement && (el.isContentEditable || el instanceof HTMLTextAreaElement || el instanceof HTMLSelectElement ||
    (el instanceof HTMLInputElement && !["checkbox", "radio", "button", "range", "submit"].includes(el.type)));
const isControl = (el: Element | null): boolean =>
  el instanceof HTMLElement && el.matches("button, a[href], summary, select, [role=button], [role=menuitem]");

function matches(id: CommandId, name: string, field: boolean, control: boolean): boolean {
  if (!keysOf(id).includes(name)) return false;
  const c: Command = COMMANDS[id];
  if (field && !c.inFields?.includes(name)) return false;
  if (control && (name === "Enter" || name === "Space") && !c.overControls) return false;
  return singleKeys.value || name.length > 1 || !/^[a-z]$/i.test(name);
}

// A button that got its focus from a click does not keep Enter for itself: who ranks by mouse still submits by Enter.
let byPointer = false;
addEventListener("pointerdown", () => { byPointer = true; }, true);

function onKey(e: KeyboardEvent): void {
  if (e.key === "Tab") byPointer = false;
  if (e.defaultPrevented || e.isComposing || e.keyCode === 229 || e.key === "Dead") return;
  const name = nameOf(e);
  const el = document.activeElement;
  const field = isField(el);
  const control = isControl(el) && !byPointer;
  for (let i = layers.length - 1; i >= 0; i--) {
    const layer = layers[i]!;
    for (const id of Object.keys(layer.handlers) as CommandId[]) {
      const c: Command = COMMANDS[id];
      if (!matches(id, name, field, control)) continue;
      e.preventDefault();
      if (e.repeat && !c.repeats) return;
      if (performance.now() < guardUntil && !c.early) return;
      layer.handlers[id]!();
      return;
    }
    if (layer.scope === "dialog") return; // what lies under a dialog hears nothing
  }
}
addEventListener("keydown", onKey);

function refresh(): void { activeScopes.value = [...new Set(layers.map((l) => l.scope))]; }

/** Switches a scope on for as long as the component lives; the newest scope hears a key first. */
export function useCommands(scope: Scope, handlers: Partial<Record<CommandId, Handler>>, on = true): void {
  const layer = useRef<Layer | null>(null);
  // At once, not after the paint: the next key may come before it and must find what the last one changed.
  useLayoutEffect(() => {
    if (!on) return;
    const mine: Layer = { scope, handlers };
    layer.current = mine;
    layers.push(mine);
    refresh();
    return () => { layers.splice(layers.indexOf(mine), 1); layer.current = null; refresh(); };
  }, [scope, on]);
  useLayoutEffect(() => { if (layer.current) layer.current.handlers = handlers; });
}
