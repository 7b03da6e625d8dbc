// What differs between two answers, as tinted words on each side.
import { diffWordsWithSpace } from "diff";
import { escape } from "./escape.ts";

/** HTML of a and of b with their differing words marked; null when they are too far apart to compare in time. */
export function compare(a: string, b: string): [string, string] | null {
  const parts = diffWordsWithSpace(a, b, { timeout: 300 });
  if (!parts) return null;
  let left = "";
  let right = "";
  for (const p of parts) {
    const text = escape(p.value);
    if (!p.added) left += p.removed ? `<mark>${text}</mark>` : text;
    if (!p.removed) right += p.added ? `<mark>${text}</mark>` : text;
  }
  // Marked words with nothing but space between them read as one mark.
  const wrap = (s: string): string => `<p class="keep" dir="auto">${s.replace(/<\/mark>( *)<mark>/g, "$1")}</p>`;
  return [wrap(left), wrap(right)];
}
