// The answer in progress: pure functions from what stands to what a key makes of it.
import type { Answer, Dataset, Draft, Flag, Option, Question, Tiers, Values } from "../lib/types.ts";

export interface Work { values: Values; why: string; flag: Flag | null }

export const emptyWork = (): Work => ({ values: {}, why: "", flag: null });
export const workOf = (d: Draft | null): Work => (d ? { values: d.values, why: d.why ?? "", flag: d.flag } : emptyWork());
export const isBlank = (w: Work): boolean => Object.keys(w.values).length === 0 && w.why === "" && w.flag === null;

export function withValue(w: Work, question: string, answer: Answer | null): Work {
  const values = { ...w.values };
  if (answer) values[question] = answer;
  else delete values[question];
  return { ...w, values };
}

/* Pairs: seven steps from "A much better" (1) to "B much better" (7); A is the answer shown first. */

export function pairAt(order: string[], step: number, graded: boolean): Answer {
  const [a, b] = order as [string, string];
  const value: Tiers = step === 4 ? [[a, b]] : step < 4 ? [[a], [b]] : [[b], [a]];
  return graded ? { value, strength: Math.abs(step - 4) } : { value };
}
export const bothBad = (order: string[], graded: boolean): Answer => ({ ...pairAt(order, 4, graded), both_bad: true });

/** The step that an answer stands for, or null when nothing was chosen or both are bad. */
export function stepOf(order: string[], answer: Answer | undefined): number | null {
  if (!answer || answer.both_bad || !isTiers(answer.value)) return null;
  if (answer.value.length === 1) return 4;
  const by = Math.min(3, Math.max(1, answer.strength ?? 2));
  return answer.value[0]?.[0] === order[0] ? 4 - by : 4 + by;
}
export const moved = (step: number | null, by: -1 | 1): number => (step === null ? 4 + by : Math.min(7, Math.max(1, step + by)));

/* Rankings: tiers of ids, best first; ties stand in one tier. */

export const isTiers = (v: unknown): v is Tiers => Array.isArray(v) && v.every((x) => Array.isArray(x));
export const tiersOf = (a: Answer | undefined): Tiers => (a && isTiers(a.value) ? a.value : []);
export const tierOf = (tiers: Tiers, id: string): number => tiers.findIndex((t) => t.includes(id));
/** Competition rank as people say it: two firsts, then third. */
export function rankOf(tiers: Tiers, id: string): number | null {
  const at = tierOf(tiers, id);
  return at < 0 ? null : 1 + tiers.slice(0, at).reduce((n, x) => n + x.length, 0);
}

export function place(tiers: Tiers, id: string, tied: boolean): Tiers {
  if (tierOf(tiers, id) >= 0) return tiers;
  return tied && tiers.length ? [...tiers.slice(0, -1), [...tiers[tiers.length - 1]!, id]] : [...tiers, [id]];
}
export function remove(tiers: Tiers, id: string): Tiers {
  return tiers.map((x) => x.filter((y) => y !== id)).filter((x) => x.length);
}
export function removeLast(tiers: Tiers): Tiers {
  const last = tiers.at(-1)?.at(-1);
  return last === undefined ? tiers : remove(tiers, last);
}
/** One place up or down: out of a tie first, else past the neighbouring tier. */
export function shift(tiers: Tiers, id: string, by: -1 | 1): Tiers {
  const at = tierOf(tiers, id);
  if (at < 0) return place(tiers, id, false);
  const rest = remove(tiers, id);
  if (tiers[at]!.length > 1) rest.splice(by < 0 ? at : at + 1, 0, [id]);
  else rest.splice(Math.min(rest.length, Math.max(0, at + by)), 0, [id]);
  return rest;
}
export function toEnd(tiers: Tiers, id: string, end: "top" | "bottom"): Tiers {
  const rest = remove(tiers, id);
  return end === "top" ? [[id], ...rest] : [...rest, [id]];
}

/** Where a dragged answer may be let go: into a tier (a tie), before a tier (`before` their number: after the last), or out of the ranking. */
export type Spot = { into: number } | { before: number } | "out";
export function dropAt(tiers: Tiers, id: string, spot: Spot): Tiers {
  if (spot === "out") return remove(tiers, id);
  if ("into" in spot && tiers[spot.into]?.includes(id)) return tiers;
  const rest = tiers.map((x) => x.filter((y) => y !== id)); // its old tier keeps its index until the end
  if ("into" in spot) rest[spot.into] = [...rest[spot.into]!, id];
  else rest.splice(spot.before, 0, [id]);
  return rest.filter((x) => x.length);
}

/* What belongs together */

const squash = (s: string): string => s.toLowerCase().replace(/[\s_-]/g, "");
/** The field that holds the text of a ranking option, if there is one. */
export function fieldOf(dataset: Pick<Dataset, "fields">, o: Option): string | null {
  const exact = dataset.fields.find((f) => f.name === o.value || f.title === o.text);
  return (exact ?? dataset.fields.find((f) => squash(f.name) === squash(o.value) || squash(f.title) === squash(o.text)))?.name ?? null;
}
/** Option ids of a ranking in the order their cards are shown; those without a card follow. */
export function rankIds(dataset: Pick<Dataset, "fields">, options: Option[], order: string[]): { id: string; field: string | null; text: string }[] {
  const rows = options.map((o) => ({ id: o.value, field: fieldOf(dataset, o), text: o.text }));
  const at = (f: string | null): number => (f === null ? Infinity : order.indexOf(f) < 0 ? Infinity : order.indexOf(f));
  return rows.map((r, i) => ({ r, i })).sort((x, y) => { const d = at(x.r.field) - at(y.r.field); return Number.isNaN(d) || d === 0 ? x.i - y.i : d; }).map((x) => x.r);
}

export function answered(q: Question, a: Answer | undefined): boolean {
  if (!a) return false;
  switch (q.type) {
    case "ranking": {
      const n = tiersOf(a).flat().length;
      return q.settings.partial ? n > 0 : n === q.settings.options.length;
    }
    case "multi_label_selection": return Array.isArray(a.value) && a.value.length > 0;
    case "text": return typeof a.value === "string" && a.value.trim() !== "";
    default: return true;
  }
}
/** The first required question without its answer; null when the work can be submitted. */
export function lacking(questions: Question[], w: Work): Question | null {
  const drawn = questions.filter((q) => q.type !== "span");
  const open = drawn.find((q) => q.required && !answered(q, w.values[q.name]));
  if (open) return open;
  return drawn.some((q) => answered(q, w.values[q.name])) ? null : drawn[0] ?? null;
}
/** Only complete answers leave the desk: a half-made optional ranking stays behind. */
export function complete(questions: Question[], w: Work): Values {
  return Object.fromEntries(questions.flatMap((q) => { const a = w.values[q.name]; return a && answered(q, a) ? [[q.name, a]] : []; }));
}
