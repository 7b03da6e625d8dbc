// Which curves share a chart, and which charts come first.
import type { MetricRow } from "../lib/types.ts";

export interface Group { title: string; keys: string[] }

const TOGETHER: string[][] = [["min_reward", "mean_reward", "max_reward"], ["rewards/chosen", "rewards/rejected"], ["seconds/sample", "seconds/score", "seconds/learn"], ["learning_rate", "lr"]];
const FIRST: Record<string, string[]> = {
  train_reward: ["loss", "accuracy", "margin", "mean_reward", "grad_norm", "learning_rate", "tokens_per_second"],
  improve: ["objective/scores", "objective/rlhf_reward", "objective/kl", "objective/entropy", "answer_tokens", "policy/clipfrac_avg", "loss/value_avg", "tokens_per_second"],
  other: ["loss", "accuracy", "margin", "objective/scores", "objective/kl", "learning_rate", "grad_norm", "tokens_per_second"],
};
/** The charts that a run of this kind will have, before its first step. */
export const expected = (kind: string): string[] => FIRST[kind] ?? FIRST["other"]!;
const SILENT = new Set(["step", "epoch", "time", "num_tokens", "unique_tokens", "peak_rss_bytes", "episode"]);

export function keysOf(rows: MetricRow[]): string[] {
  const keys = new Set<string>();
  for (const r of rows) for (const k of Object.keys(r)) if (!SILENT.has(k) && typeof r[k] === "number") keys.add(k);
  return [...keys];
}

export function groupsOf(kind: string, keys: string[]): { first: Group[]; rest: Group[] } {
  const left = new Set(keys);
  const groups = new Map<string, string[]>();
  for (const set of TOGETHER) {
    const here = set.filter((k) => left.has(k));
    if (!here.length) continue;
    const main = here.includes("mean_reward") ? "mean_reward" : here[0]!;
    groups.set(main, here);
    here.forEach((k) => left.delete(k));
  }
  for (const k of [...left]) {
    const base = k.replace(/^eval_/, "");
    if (k !== base && (left.has(base) || groups.has(base))) continue; // drawn with what it evaluates
    groups.set(k, left.has(`eval_${k}`) ? [k, `eval_${k}`] : [k]);
  }
  const order = FIRST[kind] ?? FIRST["other"]!;
  const group = (title: string): Group => ({ title, keys: groups.get(title)! });
  const first = order.map((k) => (k === "learning_rate" && !groups.has(k) ? "lr" : k)).filter((k) => groups.has(k)).map(group);
  const named = new Set(first.map((g) => g.title));
  return { first, rest: [...groups.keys()].filter((k) => !named.has(k)).sort().map(group) };
}

/** Exponential smoothing that starts unbiased; gaps stay gaps. */
export function smooth(y: (number | null)[], by: number): (number | null)[] {
  if (by <= 0) return y;
  let acc = 0;
  let weight = 0;
  return y.map((v) => {
    if (v === null) return null;
    acc = by * acc + (1 - by) * v;
    weight = by * weight + (1 - by);
    return acc / weight;
  });
}
