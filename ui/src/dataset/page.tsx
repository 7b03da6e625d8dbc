// The lead's home: the loop in five steps, the facts, the people, and what needs attention.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { get, tz } from "../lib/api.ts";
import { Meter, Menu, Shell, useLoad } from "../lib/frame.tsx";
import { ago, count, dot2, duration, interval, num, percent, t, tr, type Key } from "../lib/i18n.ts";
import { Icon } from "../lib/icons.tsx";
import { Button, Failure, Later } from "../lib/parts.tsx";
import { go, Link } from "../lib/router.tsx";
import type { Attention, Dataset, NextStep, Overview, RunHead, Share, StepState } from "../lib/types.ts";
import { headlineText, isLive } from "../runs/words.ts";
import { ImportDialog } from "./create.tsx";
import { GuidelinesDialog } from "./guidelines.tsx";
import { ImproveDialog, SendDialog, TrainDialog } from "./jobs.tsx";

type Open = "import" | "train" | "improve" | "guidelines" | { send: RunHead } | null;

function StepCard({ n, title, state, now, href, children }: { n: number; title: string; state: StepState; now: boolean; href?: string; children: string[] }): JSX.Element {
  const body = (
    <>
      <span class="n">{state === "done" ? <Icon name="check" /> : state === "failed" ? <Icon name="warn" /> : n}<span class="spoken">{tr(`step.${state}`, state)}</span></span>
      <h2>{title}</h2>
      {children.filter(Boolean).map((line) => <small key={line}>{line}</small>)}
    </>
  );
  const cls = `step ${state}${now ? " now" : ""}`;
  return <li class={cls} {...(now ? { "aria-current": "step" as const } : {})}>{href ? <Link href={href}>{body}</Link> : <div>{body}</div>}</li>;
}

function runLines(run: RunHead | null, none: string): string[] {
  if (!run) return [none];
  const where = isLive(run.state) && run.total_steps ? t("run.stepOf", { step: run.step, total: run.total_steps }) : tr(`state.${run.state}`, run.state);
  return [where, headlineText(run)];
}

/** Models are named by where they lie: the last part tells them apart, unless it is the same; of a run, whose model is RUN/model, the run's. */
function modelNames(paths: string[]): string {
  const names = paths.map((p) => p.replace(/(\/model)?\/*$/, "").split("/").pop() || p);
  return (new Set(names).size < names.length ? paths : names).join(", ");
}

const ACTS: Partial<Record<NextStep, number>> = { import: 1, label: 2, train_reward: 4, watch_reward: 4, improve: 5, watch_policy: 5, send: 5 };

function Steps({ o, id }: { o: Overview; id: string }): JSX.Element {
  const s = o.steps;
  const at = ACTS[o.next] ?? 0;
  const runHref = (r: RunHead | null): { href?: string } => (r ? { href: `/runs/${r.id}` } : {});
  return (
    <ol class="card steps" aria-label={t("loop")}>
      <StepCard n={1} title={t("step.generate")} state={s.generate.state} now={at === 1} href={`/datasets/${id}/records`}>
        {s.generate.prompts ? [t("step.prompts", { n: s.generate.prompts }), [t("step.answers", { n: s.generate.answers }), modelNames(s.generate.models)].filter(Boolean).join(", ")] : [t("step.noRecords")]}
      </StepCard>
      <StepCard n={2} title={t("step.label")} state={s.label.state} now={at === 2} href={`/datasets/${id}/label`}>
        {[t("step.labeled", { done: s.label.done, total: s.label.records }), o.eta ? t("eta", { time: duration(o.eta.seconds), low: duration(o.eta.low), high: duration(o.eta.high) }) : ""]}
      </StepCard>
      <StepCard n={3} title={t("step.agree")} state={s.agree.state} now={at === 3} href={`/datasets/${id}/records?filter=conflicts`}>
        {[s.agree.value === null ? t("step.noAgree") : t("step.alpha", { value: interval(s.agree.value, s.agree.ci) }), s.agree.conflicts ? t("step.conflicts", { n: s.agree.conflicts }) : ""]}
      </StepCard>
      <StepCard n={4} title={t("step.reward")} state={s.reward.state} now={at === 4} {...runHref(s.reward.run)}>{runLines(s.reward.run, t("step.notStarted"))}</StepCard>
      <StepCard n={5} title={t("step.policy")} state={s.policy.state} now={at === 5} {...runHref(s.policy.run)}>{runLines(s.policy.run, t("step.notStarted"))}</StepCard>
    </ol>
  );
}

function Fact({ title, value, note, href }: { title: string; value: string; note: string; href?: string }): JSX.Element {
  return <div><h2>{title}</h2><div class="big">{href ? <Link href={href}>{value}</Link> : value}</div><small>{note}</small></div>;
}
const shareNote = (s: Share | null, none: string, clear: string, watch: string): string =>
  !s ? none : `${t("share.ci", { low: percent(s.ci[0]), high: percent(s.ci[1]) })}, ${s.ci[0] > 0.5 || s.ci[1] < 0.5 ? watch : clear}`;

function Facts({ o, id }: { o: Overview; id: string }): JSX.Element {
  const f = o.facts;
  const c = o.counts;
  const rows = (filter: string): string => `/datasets/${id}/records?filter=${filter}`;
  return (
    <section class="card facts" aria-label={t("facts")}>
      <Fact title={t("fact.judgments")} value={count(f.judgments)} href={rows("done")} note={t("fact.today", { n: f.today })} />
      <Fact title={t("fact.median")} value={f.median_seconds === null ? "–" : duration(f.median_seconds)} note={t("fact.medianNote")} />
      <Fact title={t("fact.left")} value={f.left ? percent(f.left.share) : "–"} note={shareNote(f.left, t("fact.tooFew"), t("fact.leftClear"), t("fact.leftWatch"))} />
      <Fact title={t("fact.longer")} value={f.longer ? percent(f.longer.share) : "–"} note={shareNote(f.longer, t("fact.tooFew"), t("fact.longerClear"), t("fact.longerWatch"))} />
      <div class="funnel">
        <span class="bar-of" role="img" aria-label={t("funnel.say", { waiting: count(c.waiting), hand: count(c.in_hand), done: count(c.done) })}>
          <i class="done" style={{ width: `${c.records ? (c.done / c.records) * 100 : 0}%` }} /><i class="hand" style={{ width: `${c.records ? (c.in_hand / c.records) * 100 : 0}%` }} />
        </span>
        <ul>
          <li><i class="key done" /><Link href={rows("done")}>{t("funnel.done", { n: c.done })}</Link></li>
          <li><i class="key hand" /><Link href={rows("in_hand")}>{t("funnel.hand", { n: c.in_hand })}</Link></li>
          <li><i class="key" /><Link href={rows("waiting")}>{t("funnel.waiting", { n: c.waiting })}</Link></li>
          <li class="apart"><span>{t("funnel.submitted", { n: c.submitted })}</span></li>
          <li><Link href={rows("skipped")}>{t("funnel.discarded", { n: c.discarded })}</Link></li>
          <li><Link href={rows("flagged")}>{t("funnel.flagged", { n: c.flagged })}</Link></li>
        </ul>
      </div>
    </section>
  );
}

function Agreement({ o }: { o: Overview }): JSX.Element {
  return (
    <section class="card">
      <h2>{t("agreement")}</h2>
      {o.agreement.map((a) => (
        <div class="agree" key={a.question + a.measure}>
          <div class="big">{a.value === null ? "–" : dot2(a.value)}</div>
          <div>
            <p>{a.title}</p>
            <small>{a.value === null ? t("agreement.none") : [tr(`measure.${a.measure}`, a.measure), a.ci ? t("share.ci", { low: dot2(a.ci[0]), high: dot2(a.ci[1]) }) : "", a.percent === null ? "" : t("agreement.percent", { x: percent(a.percent) }), t("agreement.over", { n: a.records, labelers: a.labelers })].filter(Boolean).join(", ")}</small>
          </div>
        </div>
      ))}
      {o.agreement.length === 0 && <p class="quiet">{t("agreement.none")}</p>}
    </section>
  );
}

function Labelers({ o, id }: { o: Overview; id: string }): JSX.Element {
  return (
    <section class="card">
      <h2>{t("labelers")}</h2>
      {o.labelers.length === 0 ? <p class="quiet">{t("labelers.none")}</p> : (
        <div class="scroll-x" tabIndex={0} role="region" aria-label={t("labelers")}>
          <table>
            <thead><tr><th>{t("labelers.name")}</th><th class="right">{t("labelers.judgments")}</th><th class="right">{t("labelers.rate")}</th><th class="right">{t("labelers.median")}</th><th>{t("labelers.agreement")}</th><th>{t("labelers.left")}</th><th>{t("labelers.seen")}</th></tr></thead>
            <tbody>
              {o.labelers.map((l) => (
                <tr key={l.id}>
                  <td><Link href={`/datasets/${id}/records?user=${l.id}`}>{l.username}</Link></td>
                  <td class="right">{count(l.submitted)}</td><td class="right">{l.per_hour === null ? "–" : count(Math.round(l.per_hour))}</td><td class="right">{l.median_seconds === null ? "–" : duration(l.median_seconds)}</td>
                  <td>{l.agreement === null ? "–" : <span class="with-meter"><Meter share={l.agreement} label={dot2(l.agreement)} {...(l.agreement < 0.7 ? { tone: "caution" as const } : {})} /> {dot2(l.agreement)}</span>}</td>
                  <td>{l.left ? percent(l.left.share) : "–"}</td><td class="nowrap">{l.active ? t("time.now") : ago(l.last_at)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function attentionHref(a: Attention, id: string): string | null {
  if (a.run) return `/runs/${a.run}`;
  if (a.user) return `/datasets/${id}/records?user=${a.user.id}`;
  return ["conflicts", "flagged", "skipped"].includes(a.kind) ? `/datasets/${id}/records?filter=${a.kind}` : null;
}
function NeedsYou({ o, id }: { o: Overview; id: string }): JSX.Element {
  return (
    <section class="card">
      <h2>{t("needs")}</h2>
      {o.attention.length === 0 && <p class="quiet">{t("needs.nothing")}</p>}
      <ul class="attention">
        {o.attention.map((a, i) => {
          const share = a.kind === "fast" ? duration(a.value ?? 0) : a.kind === "low_agreement" ? dot2(a.value ?? 0) : percent(a.value ?? 0);
          const params = { n: a.n, user: a.user?.username ?? "", value: share };
          const href = attentionHref(a, id);
          const text = tr(`attention.${a.kind}`, a.text ?? a.kind, params);
          return <li key={i}><i class="dot" /><span>{href ? <Link href={href}>{text}</Link> : text}<small>{tr(`attention.${a.kind}.hint`, "", params)}</small></span></li>;
        })}
      </ul>
    </section>
  );
}

function ExportMenu({ id }: { id: string }): JSX.Element {
  const { value } = useLoad((s) => get<{ formats: { name: string; title: string; extension: string }[] }>("/export-formats", s), []);
  return (
    <Menu label={t("export")}>
      {(close) => value?.formats.map((f) => (
        <a key={f.name} role="menuitem" href={`/ui/datasets/${id}/export?format=${encodeURIComponent(f.name)}`} download onClick={close}>{f.title}<small>.{f.extension}</small></a>
      ))}
    </Menu>
  );
}

/** The one button: whatever is the next sensible step. */
function Next({ o, id, open }: { o: Overview; id: string; open: (x: Open) => void }): JSX.Element | null {
  const run = o.next === "watch_reward" ? o.steps.reward.run : o.steps.policy.run;
  switch (o.next) {
    case "import": return <Button tone="primary" onClick={() => open("import")}>{t("next.import")}</Button>;
    case "label": return <Link class="button primary" href={`/datasets/${id}/label`}>{t("next.label")}</Link>;
    case "train_reward": return <Button tone="primary" onClick={() => open("train")}>{t("next.train_reward")}</Button>;
    case "improve": return <Button tone="primary" onClick={() => open("improve")}>{t("next.improve")}</Button>;
    case "watch_reward": case "watch_policy": return run && <Link class="button primary" href={`/runs/${run.id}`}>{t(`next.${o.next}` as Key)}</Link>;
    case "send": return run && <Button tone="primary" onClick={() => open({ send: run })}>{t("next.send")}</Button>;
    default: return null;
  }
}

export default function DatasetPage({ id }: { id: string }): JSX.Element {
  const d = useLoad((s) => get<Dataset>(`/datasets/${id}`, s), [id]);
  const o = useLoad((s) => get<Overview>(`/datasets/${id}/overview?tz=${tz()}`, s), [id], 5000);
  const [open, setOpen] = useState<Open>(null);
  const close = (): void => setOpen(null);
  const data = d.value;
  const over = o.value;
  return (
    <Shell title={data?.name ?? t("nav.datasets")}>
      {(d.error ?? o.error) && <Failure message={(d.error ?? o.error)!} again={() => { d.again(); o.again(); }} />}
      {(!data || !over) ? !d.error && !o.error && <Later><p class="quiet">{t("loading")}</p></Later> : (
        <>
          <div class="head">
            <div class="titles"><h1>{data.name}</h1>
            <small>{[t("step.prompts", { n: data.counts.records }), data.answers.length > 1 ? t("home.answers", { n: data.answers.length }) : "", data.guidelines.text === null ? t("guidelines.missing") : t("guidelines.at", { n: data.guidelines.version })].filter(Boolean).join(", ")}</small></div>
            <Menu label={t("more")}>
              {(shut) => (
                <>
                  <button type="button" role="menuitem" onClick={() => { shut(); setOpen("import"); }}>{t("import.title")}</button>
                  <button type="button" role="menuitem" onClick={() => { shut(); setOpen("guidelines"); }}>{t("guidelines.edit")}</button>
                  <button type="button" role="menuitem" onClick={() => go(`/datasets/${id}/label`)}>{t("next.label")}</button>
                  <button type="button" role="menuitem" onClick={() => go(`/datasets/${id}/records`)}>{t("records")}</button>
                  <button type="button" role="menuitem" onClick={() => { shut(); setOpen("train"); }}>{t("next.train_reward")}</button>
                  <button type="button" role="menuitem" onClick={() => { shut(); setOpen("improve"); }}>{t("next.improve")}</button>
                </>
              )}
            </Menu>
            <ExportMenu id={id} />
            <Next o={over} id={id} open={setOpen} />
          </div>
          <Steps o={over} id={id} />
          <Facts o={over} id={id} />
          <div class="two">
            <div class="stack"><Labelers o={over} id={id} /><Agreement o={over} /></div>
            <NeedsYou o={over} id={id} />
          </div>
          <p class="quiet as-of">{t("asOf", { when: ago(over.as_of) })}{num(over.facts.ties) !== "–" && over.facts.judgments > 0 ? `, ${t("tiesNote", { ties: over.facts.ties, bad: over.facts.both_bad })}` : ""}</p>
          {open === "import" && <ImportDialog dataset={id} onClose={close} onDone={() => { d.again(); o.again(); }} />}
          {open === "guidelines" && <GuidelinesDialog dataset={data} onClose={close} onDone={d.again} />}
          {open === "train" && <TrainDialog dataset={data} onClose={close} />}
          {open === "improve" && <ImproveDialog dataset={data} onClose={close} />}
          {open !== null && typeof open === "object" && <SendDialog run={open.send.id} from={data.name} onClose={close} />}
        </>
      )}
    </Shell>
  );
}
