// Strings live in one flat catalogue, in files that come with the chunks that use them; a plural is an object by plural
// category. Numbers, dates and durations go through Intl.
import core from "../strings/en/core.json" with { type: "json" };
import type asideStrings from "../strings/en/aside.json";
import type helpStrings from "../strings/en/help.json";
import type leadStrings from "../strings/en/lead.json";
import type signInStrings from "../strings/en/signin.json";

export type Key = keyof typeof core | keyof typeof asideStrings | keyof typeof helpStrings | keyof typeof leadStrings | keyof typeof signInStrings;
export type Entry = string | Partial<Record<Intl.LDMLPluralRule, string>>;
export type Params = Record<string, string | number>;

const locale = "en";
const catalogue: Record<string, Entry> = { ...core };
/** Adds the strings of a screen that comes in a chunk of its own. */
export function addStrings(more: Record<string, Entry>): void { Object.assign(catalogue, more); }
const plurals = new Intl.PluralRules(locale);
const integers = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });

/** The text of a key. `{name}` takes a parameter; numbers are formatted; `n` chooses the plural. */
export function t(key: Key, params: Params = {}): string {
  const entry = catalogue[key];
  if (entry === undefined) return key;
  const text = typeof entry === "string" ? entry : entry[plurals.select(Number(params["n"] ?? 0))] ?? entry.other ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name: string) => {
    const v = params[name];
    return v === undefined ? all : typeof v === "number" ? integers.format(v) : v;
  });
}

/** The text of a key made at run time ("state.running"); the fallback stands where the catalogue has none. */
export function tr(key: string, fallback: string, params: Params = {}): string {
  return key in catalogue ? t(key as Key, params) : fallback;
}

export const count = (n: number): string => integers.format(n);
const percents = new Intl.NumberFormat(locale, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const percent = (x: number): string => percents.format(x);

/** Three significant digits, thousands separated, tiny and huge ones in scientific notation. */
export function num(x: number | null | undefined): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const a = Math.abs(x);
  if (a !== 0 && (a < 1e-3 || a >= 1e7)) return x.toExponential(1).replace("e+", "e");
  if (a >= 1000) return integers.format(x);
  return String(Number(x.toPrecision(3)));
}

/** ".61 (.57 to .65)" without the leading zero, as agreement is read. */
export function interval(x: number | null, ci: [number, number] | null, f: (x: number) => string = dot2): string {
  if (x === null) return "–";
  return ci ? t("interval", { value: f(x), low: f(ci[0]), high: f(ci[1]) }) : f(x);
}
export const dot2 = (x: number): string => x.toFixed(2).replace(/^(-?)0\./, "$1.");

export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return t("time.s", { n: s });
  const m = Math.round(s / 60);
  if (m < 90) return t("time.min", { n: m });
  const h = Math.round(m / 60);
  return h < 36 ? t("time.h", { n: h }) : t("time.d", { n: Math.round(h / 24) });
}

export function bytes(n: number): string {
  const g = n / 2 ** 30;
  return g >= 1 ? t("bytes.gb", { x: g.toFixed(1) }) : t("bytes.mb", { x: (n / 2 ** 20).toFixed(0) });
}

const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "narrow" });
const day = { month: "short", day: "numeric" } as const;
const dates = new Intl.DateTimeFormat(locale, { ...day, hour: "2-digit", minute: "2-digit" });
const years = new Intl.DateTimeFormat(locale, { ...day, year: "numeric" });
/** The day and hour; for what is long past the day and year. */
const dated = (at: number, now: number): string => (Math.abs(now - at) > 300 * 864e5 ? years : dates).format(at);
export function ago(iso: string | null, now = Date.now()): string {
  if (!iso) return t("time.never");
  const s = (Date.parse(iso) - now) / 1000;
  if (s > -60) return t("time.now");
  if (s > -3600) return relative.format(Math.round(s / 60), "minute");
  if (s > -86400) return relative.format(Math.round(s / 3600), "hour");
  return s > -7 * 86400 ? relative.format(Math.round(s / 86400), "day") : dated(Date.parse(iso), now);
}
export const when = (iso: string): string => dated(Date.parse(iso), Date.now());
