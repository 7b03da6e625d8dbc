// Dragging an answer to its place in a ranking, by mouse, pen or finger. Nothing on the page moves while it lasts: the strip shows where
// the answer would land and a chip follows the pointer. Keys and the arrow buttons do all of it too (WCAG 2.5.7).
import { signal } from "@preact/signals";
import type { Spot } from "./work.ts";

export interface Drag { question: string; id: string; x: number; y: number; spot: Spot | null }
/** The drag under way; the ranking it belongs to draws it. */
export const drag = signal<Drag | null>(null);

const FAR = 6; // pixels before a press is a drag
const REACH = 20; // how far beside the strip still counts as on it

const holds = (r: DOMRect, x: number, y: number, by = 0): boolean => x >= r.left - by && x <= r.right + by && y >= r.top - by && y <= r.bottom + by;

/** The control of a question on the task in front. */
function controlOf(question: string): HTMLElement | null {
  return [...document.querySelectorAll<HTMLElement>(".ranking")].find((e) => e.dataset["question"] === question && !e.closest("[inert]")) ?? null;
}

/** The middle of a filled slot is a tie with it, its edges are the places before and after. */
function spotAt(control: HTMLElement, x: number, y: number): Spot | null {
  const strip = control.querySelector<HTMLElement>(".slots")!;
  if (!holds(strip.getBoundingClientRect(), x, y, REACH)) return holds(control.querySelector(".tray")!.getBoundingClientRect(), x, y) ? "out" : null;
  const filled = [...strip.querySelectorAll(".slot.filled")].map((e) => e.getBoundingClientRect());
  for (const [i, r] of filled.entries()) {
    const edge = Math.min(28, r.width / 4);
    if (x < r.left + edge) return { before: i };
    if (x <= r.right - edge) return { into: i };
  }
  return { before: filled.length };
}

/** Called when a pointer goes down on what stands for answer `id`; `drop` is called if it is let go over a place. */
export function grab(down: PointerEvent, question: string, id: string, drop: (spot: Spot) => void): void {
  if (down.button !== 0 || !down.isPrimary || drag.value) return;
  const source = down.currentTarget as HTMLElement;
  let began = false;
  let dropped = false; // by Escape: the pointer is still down

  const look = (e: PointerEvent): void => {
    const control = controlOf(question);
    drag.value = { question, id, x: e.clientX, y: e.clientY, spot: control && spotAt(control, e.clientX, e.clientY) };
  };
  const move = (e: PointerEvent): void => {
    if (e.pointerId !== down.pointerId) return;
    if (!began) {
      if (Math.hypot(e.clientX - down.clientX, e.clientY - down.clientY) < FAR) return;
      began = true;
      source.setPointerCapture(e.pointerId);
      document.documentElement.toggleAttribute("data-dragging", true);
    }
    if (!dropped) look(e);
  };
  const end = (): void => {
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", up);
    removeEventListener("pointercancel", end);
    removeEventListener("keydown", key, true);
    document.documentElement.removeAttribute("data-dragging");
    drag.value = null;
  };
  const up = (e: PointerEvent): void => {
    if (e.pointerId !== down.pointerId) return;
    if (began) {
      if (!dropped) look(e);
      // The click that follows belongs to the drag, not to the button under it.
      const swallow = (c: Event): void => { c.preventDefault(); c.stopPropagation(); };
      addEventListener("click", swallow, { capture: true, once: true });
      setTimeout(() => removeEventListener("click", swallow, true));
    }
    const spot = drag.value?.spot ?? null;
    end();
    if (spot) drop(spot);
  };
  const key = (e: KeyboardEvent): void => {
    if (!began || dropped || e.key !== "Escape") return;
    e.preventDefault();
    e.stopPropagation();
    dropped = true;
    drag.value = null;
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", up);
  addEventListener("pointercancel", end);
  addEventListener("keydown", key, true);
}
