// How runs are spoken of.
import { interval, num, percent, tr } from "../lib/i18n.ts";
import type { JobState, RunHead } from "../lib/types.ts";

export const isLive = (s: JobState): boolean => s === "queued" || s === "running" || s === "stopping";

const SHARES = /accuracy|win_rate|_share|clipfrac/;
export const metricName = (key: string): string => tr(`metric.${key}`, key);
export const metricValue = (key: string, x: number): string => (SHARES.test(key) ? percent(x) : num(x));

export function headlineText(r: RunHead): string {
  if (!r.headline) return "";
  const { key, value, ci } = r.headline;
  return `${metricName(key)} ${interval(value, ci, (x) => metricValue(key, x))}`;
}
