// What the policy says now beside what it said at the start: numbers alone do not show it.
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { useLoad } from "../lib/frame.tsx";
import { count, num, t } from "../lib/i18n.ts";
import { useCommands } from "../lib/keys.ts";
import { Button, Failure } from "../lib/parts.tsx";
import type { Message, SamplesReply } from "../lib/types.ts";
import { textOf, Value } from "../text/reader.tsx";

export interface Row { prompt: string | Message[]; before: { text: string; score: number | null; note?: string } | null; after: { text: string; score: number | null; note?: string } }

const gain = (r: Row): number => (r.after.score ?? 0) - (r.before?.score ?? 0);

/** One prompt at a time, both answers side by side; sorted, filtered, stepped through with j and k. */
export function SideBySide({ rows, title, note, children }: { rows: Row[]; title: string; note: string; children?: JSX.Element | false }): JSX.Element {
  const [at, setAt] = useState(0);
  const [filter, setFilter] = useState("");
  const [sort, setSort] = useState<"gain" | "loss" | "file">("file");
  const [diff, setDiff] = useState(false);
  const [marked, setMarked] = useState<[string, string] | null>(null);
  const list = useMemo(() => {
    let rule: RegExp | null = null;
    try { rule = filter ? new RegExp(filter, "i") : null; } catch { rule = null; }
    const kept = rule ? rows.filter((r) => rule.test(textOf(r.prompt)) || rule.test(r.after.text) || rule.test(r.before?.text ?? "")) : [...rows];
    return sort === "file" ? kept : kept.sort((a, b) => (sort === "gain" ? gain(b) - gain(a) : gain(a) - gain(b)));
  }, [rows, filter, sort]);
  const i = Math.min(at, Math.max(0, list.length - 1));
  const row = list[i];
  const move = (by: number): void => setAt(Math.min(list.length - 1, Math.max(0, i + by)));
  useCommands("run", { sampleNext: () => move(1), samplePrevious: () => move(-1), runDiff: () => setDiff(!diff) });
  useEffect(() => {
    setMarked(null);
    if (!diff || !row?.before) return;
    let alive = true;
    void import("../text/diff.ts").then(({ compare }) => { if (alive) setMarked(compare(row.before!.text, row.after.text)); });
    return () => { alive = false; };
  }, [diff, row]);
  const side = (name: string, x: Row["after"], html: string | null): JSX.Element => (
    <article class="side" aria-label={name}>
      <header><h3>{name}</h3><span class="num">{x.score === null ? "" : t("samples.score", { x: num(x.score) })}{x.note ? `, ${x.note}` : ""}</span></header>
      <Value value={x.text} rich html={html} />
    </article>
  );
  return (
    <section class="card samples">
      <div class="head">
        <h2>{title}</h2><small>{note}</small><span class="grow" />{children}
        <label class="inline"><span>{t("samples.sort")}</span>
          <select value={sort} onChange={(e) => { setSort(e.currentTarget.value as typeof sort); setAt(0); }}>
            <option value="file">{t("samples.byFile")}</option><option value="gain">{t("samples.byGain")}</option><option value="loss">{t("samples.byLoss")}</option>
          </select>
        </label>
        <input class="filter" type="search" placeholder={t("samples.filter")} aria-label={t("samples.filter")} value={filter} onInput={(e) => { setFilter(e.currentTarget.value); setAt(0); }} />
      </div>
      {!row ? <p class="quiet">{t(rows.length ? "samples.noMatch" : "samples.none")}</p> : (
        <>
          <div class="stepper">
            <Button class="small" command="samplePrevious" disabled={i === 0} onClick={() => move(-1)}>{t("samples.previous")}</Button>
            <Button class="small" command="sampleNext" disabled={i >= list.length - 1} onClick={() => move(1)}>{t("samples.next")}</Button>
            <small class="num">{t("samples.at", { i: count(i + 1), n: count(list.length) })}</small><span class="grow" />
            {row.before && <Button class={`small${diff ? " set" : ""}`} command="runDiff" aria-pressed={diff} onClick={() => setDiff(!diff)}>{t("samples.diff")}</Button>}
          </div>
          <div class="prompt-line"><Value value={row.prompt} rich /></div>
          <div class="sides">
            {row.before && side(t("samples.before"), row.before, marked?.[0] ?? null)}
            {side(t("samples.after"), row.after, marked?.[1] ?? null)}
          </div>
        </>
      )}
    </section>
  );
}

export function Samples({ id, newest }: { id: string; newest: number }): JSX.Element {
  const [step, setStep] = useState<number | null>(null);
  const [wanted, setWanted] = useState(newest);
  const { value, error, again } = useLoad((s) => get<SamplesReply>(`/runs/${id}/samples${step === null ? "" : `?step=${step}`}`, s), [id, step, wanted]);
  // New samples wait for a click while somebody may be reading the old ones; an empty page takes them at once.
  const newer = step === null && !!value && newest > (value.step ?? 0);
  useEffect(() => { if (newer && !value.samples.length) setWanted(newest); }, [newer, value, newest]);
  const rows = useMemo<Row[]>(() => (value?.samples ?? []).map((x) => ({
    prompt: x.prompt,
    before: x.reference && { text: x.reference.text, score: x.reference.score },
    after: { text: x.policy.text, score: x.policy.score, ...(x.policy.kl === null ? {} : { note: t("samples.kl", { x: num(x.policy.kl) }) }) },
  })), [value]);
  if (error) return <Failure message={error} again={again} />;
  return (
    <SideBySide rows={rows} title={t("samples")} note={value && value.steps.length ? t("samples.atStep", { step: value.step ?? "" }) : ""}>
      <>
      <Button class={`small set${newer ? "" : " unseen"}`} disabled={!newer} onClick={again}>{t("samples.newer")}</Button>
      <label class="inline"><span>{t("samples.step")}</span>
          <select class="steps-select" value={String(step ?? "")} disabled={!value || value.steps.length < 2} onChange={(e) => setStep(e.currentTarget.value === "" ? null : Number(e.currentTarget.value))}>
            <option value="">{t("samples.newest")}</option>{[...(value?.steps ?? [])].reverse().map((s) => <option key={s} value={String(s)}>{s}</option>)}
          </select>
        </label>
      </>
    </SideBySide>
  );
}
