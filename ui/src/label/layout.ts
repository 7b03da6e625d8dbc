// Where each field and question of a dataset stands on the screen.
import type { Dataset, Field, Question } from "../lib/types.ts";
import { rankIds } from "./work.ts";

export interface Layout {
  context: Field[];
  answers: Field[];
  /** The question that the answer bar carries. */
  main: Question | null;
  /** The others, and all of them when there are many: a panel at the side. */
  panel: Question[] | null;
  /** The question that digits rank cards for. */
  ranking: Extract<Question, { type: "ranking" }> | null;
  unsupported: Question[];
}

const FITS_BAR = new Set(["pairwise", "ranking", "rating", "label_selection", "multi_label_selection"]);

function barFits(q: Question): boolean {
  if (!FITS_BAR.has(q.type)) return false;
  return !("options" in q.settings) || (q.settings.options as unknown[]).length <= 11;
}

export function layoutOf(d: Dataset): Layout {
  const questions = d.questions.filter((q) => q.type !== "span");
  const only = questions.length === 1 && barFits(questions[0]!) ? questions[0]! : null;
  const ranking = questions.find((q): q is Extract<Question, { type: "ranking" }> => q.type === "ranking") ?? null;
  const named = new Set(d.answers);
  if (ranking) for (const r of rankIds(d, ranking.settings.options, d.answers)) if (r.field) named.add(r.field);
  return {
    context: d.fields.filter((f) => !named.has(f.name)),
    answers: d.fields.filter((f) => named.has(f.name)),
    main: only,
    panel: only ? null : questions,
    ranking,
    unsupported: d.questions.filter((q) => q.type === "span"),
  };
}

export const letter = (i: number): string => String.fromCharCode(65 + i);
