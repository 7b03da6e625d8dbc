// Light, dark, or what the system says.
import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
const stored = localStorage.getItem("podium.theme");
export const theme = signal<Theme>(stored === "light" || stored === "dark" ? stored : "auto");
/** Rises whenever the colours on screen change: what is painted on a canvas must be painted again. */
export const repaint = signal(0);

export function setTheme(next: Theme): void {
  theme.value = next;
  if (next === "auto") {
    localStorage.removeItem("podium.theme");
    delete document.documentElement.dataset["theme"];
  } else {
    localStorage.setItem("podium.theme", next);
    document.documentElement.dataset["theme"] = next;
  }
  repaint.value++;
}
export function cycleTheme(): Theme {
  const next: Theme = theme.value === "auto" ? "dark" : theme.value === "dark" ? "light" : "auto";
  setTheme(next);
  return next;
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => repaint.value++);
export const reducedMotion = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;
