// One task on the stage. The front one is live; those behind it are laid out already, invisible and inert, so that the swap costs one frame.
import type { JSX, TargetedPointerEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../lib/i18n.ts";
import { Icon } from "../lib/icons.tsx";
import { Cap } from "../lib/parts.tsx";
import { announce } from "../lib/say.tsx";
import type { Dataset, Field } from "../lib/types.ts";
import { isChat, type Mode, textOf, Value } from "../text/reader.tsx";
import type { Desk, Item } from "./desk.ts";
import { drag, grab } from "./drag.ts";
import { type Layout, letter } from "./layout.ts";
import { digit, Panel } from "./questions.tsx";
import { dropAt, fieldOf, place, rankOf, remove, shift, stepOf, tierOf, tiersOf, withValue } from "./work.ts";

export interface View { mode: Mode; diff: Record<string, string> | null; sync: boolean; open: boolean; stacked: boolean; toggleOpen: () => void }

const isRich = (f: Field): boolean => f.markdown || f.type === "chat";

function Context({ fields, item, view, front }: { fields: Field[]; item: Item; view: View; front: boolean }): JSX.Element | null {
  const box = useRef<HTMLDivElement>(null);
  const [tall, setTall] = useState(false);
  useEffect(() => {
    const el = box.current;
    if (!el) return;
    setTall(el.scrollHeight > el.clientHeight + 4 || view.open);
    if (!view.open && fields.some((f) => isChat(item.task.record.fields[f.name]))) el.scrollTop = el.scrollHeight; // the turn that was answered is the last one
  }, [front, view.open]);
  const shown = fields.filter((f) => textOf(item.task.record.fields[f.name]) !== "");
  if (!shown.length) return null;
  return (
    <section class={`context${view.open && front ? " open" : ""}`} aria-label={shown.length === 1 ? shown[0]!.title : t("label.context")}>
      <div class="clip" ref={box} tabIndex={0}>
        {shown.map((f) => (
          <div class="entry" key={f.name}>
            <h2>{f.title}</h2>
            <Value value={item.task.record.fields[f.name]} rich={isRich(f)} mode={view.mode} />
          </div>
        ))}
      </div>
      {tall && <button type="button" class="more" aria-expanded={view.open} onClick={view.toggleOpen}>{t(view.open ? "label.less" : "label.more")} <Cap of="prompt" /></button>}
    </section>
  );
}

function RankControls({ desk, item, layout, dataset, field, name }: { desk: Desk; item: Item; layout: Layout; dataset: Dataset; field: string; name: string }): JSX.Element | null {
  const q = layout.ranking;
  const option = q?.settings.options.find((o) => fieldOf(dataset, o) === field);
  if (!q || !option) return null;
  const tiers = tiersOf(item.work.value.values[q.name]);
  const rank = rankOf(tiers, option.value);
  const tied = rank !== null && tiers[tierOf(tiers, option.value)]!.length > 1;
  const change = (next: string[][]): void => desk.edit((w) => withValue(w, q.name, next.length ? { value: next } : null));
  return (
    <span class="rank-controls">
      {rank !== null && (
        <>
          <button type="button" class="icon-button small" aria-label={t("rank.up", { name })} onClick={() => change(shift(tiers, option.value, -1))}><Icon name="up" /></button>
          <button type="button" class="icon-button small" aria-label={t("rank.down", { name })} onClick={() => change(shift(tiers, option.value, 1))}><Icon name="down" /></button>
        </>
      )}
      <button type="button" class={`rank${rank === null ? "" : " ranked"}`} aria-pressed={rank !== null}
        aria-label={rank === null ? t("rank.give", { name }) : t(tied ? "rank.tied" : "rank.is", { name, rank })}
        onClick={() => change(rank === null ? place(tiers, option.value, false) : remove(tiers, option.value))}>
        {rank === null ? "" : <>{rank}{tied && <small>=</small>}</>}
      </button>
    </span>
  );
}

function Answer({ field, index, desk, item, dataset, layout, view, total }: {
  field: Field; index: number; desk: Desk; item: Item; dataset: Dataset; layout: Layout; view: View; total: number;
}): JSX.Element {
  const name = letter(index);
  const pair = dataset.questions.find((q) => q.type === "pairwise");
  const step = pair ? stepOf(item.task.order, item.work.value.values[pair.name]) : null;
  const picked = step !== null && total === 2 && (index === 0 ? step < 4 : step > 4);
  const q = layout.ranking;
  const option = q?.settings.options.find((o) => fieldOf(dataset, o) === field.name);
  const unranked = q && option && rankOf(tiersOf(item.work.value.values[q.name]), option.value) === null;
  const lifted = q && option && drag.value?.question === q.name && drag.value.id === option.value;
  // The head of a card is its handle; for a finger only the grip, because a swipe turns the page.
  const lift = (e: TargetedPointerEvent<HTMLElement>): void => {
    const from = e.target as Element;
    if (!q || !option || from.closest("button") || (e.pointerType === "touch" && !from.closest(".grip"))) return;
    grab(e, q.name, option.value, (spot) => desk.edit((w) => {
      const now = tiersOf(w.values[q.name]);
      const next = dropAt(now, option.value, spot);
      if (next === now) return w;
      announce(spot === "out" ? t("rank.out", { name }) : t("rank.moved", { name, rank: rankOf(next, option.value)!, total: q.settings.options.length }));
      return withValue(w, q.name, next.length ? { value: next } : null);
    }));
  };
  return (
    <article class={`answer${picked ? " picked" : ""}${unranked ? " unranked" : ""}${lifted ? " lifted" : ""}`} aria-label={t("label.answer", { name })}>
      <header {...(q && option ? { class: "handle", onPointerDown: lift } : {})}>
        {q && option && <span class="grip" aria-hidden="true" title={t("rank.drag", { name })}><Icon name="grip" /></span>}
        <h2><span class="badge">{name}</span></h2>
        {layout.ranking && index < 9 && <span class="wide-only"><Cap of={digit(index + 1)} /></span>}
        <span class="grow" />
        <RankControls desk={desk} item={item} layout={layout} dataset={dataset} field={field.name} name={name} />
      </header>
      <div class="text" tabIndex={0} role="group" aria-label={t("label.answer", { name })}>
        <Value value={item.task.record.fields[field.name]} rich={isRich(field)} mode={view.mode} html={view.diff?.[field.name] ?? null} />
      </div>
    </article>
  );
}

/** Dots under the prompt on a phone: which answer is in view, and a way to the others. */
function Dots({ n, grid }: { n: number; grid: { current: HTMLDivElement | null } }): JSX.Element {
  const [at, setAt] = useState(0);
  useEffect(() => {
    const el = grid.current;
    if (!el) return;
    const look = (): void => setAt(Math.round(el.scrollLeft / Math.max(1, el.clientWidth)));
    el.addEventListener("scroll", look, { passive: true });
    return () => el.removeEventListener("scroll", look);
  }, []);
  return (
    <div class="dots" role="group" aria-label={t("label.pages")}>
      {Array.from({ length: n }, (_, i) => (
        <button type="button" key={i} aria-current={i === at ? "true" : undefined} aria-label={t("label.showAnswer", { name: letter(i) })}
          onClick={() => grid.current?.scrollTo({ left: i * grid.current.clientWidth, behavior: "auto" })}>{letter(i)}</button>
      ))}
    </div>
  );
}

export function TaskView({ item, dataset, layout, desk, front, view }: { item: Item; dataset: Dataset; layout: Layout; desk: Desk; front: boolean; view: View }): JSX.Element {
  const grid = useRef<HTMLDivElement>(null);
  const byName = new Map(layout.answers.map((f) => [f.name, f]));
  const ordered = [...item.task.order.flatMap((n) => byName.get(n) ?? []), ...layout.answers.filter((f) => !item.task.order.includes(f.name))];
  const n = ordered.length;

  useEffect(() => { // columns scroll together, by share of their height
    const el = grid.current;
    if (!el || !view.sync || !front) return;
    let leader: EventTarget | null = null;
    let timer = 0;
    const follow = (e: Event): void => {
      const from = e.target as HTMLElement;
      if (!from.classList?.contains("text") || (leader && leader !== from)) return;
      leader = from;
      clearTimeout(timer);
      timer = window.setTimeout(() => { leader = null; }, 120);
      const share = from.scrollTop / Math.max(1, from.scrollHeight - from.clientHeight);
      for (const other of el.querySelectorAll<HTMLElement>(".answer .text")) if (other !== from) other.scrollTop = share * (other.scrollHeight - other.clientHeight);
    };
    el.addEventListener("scroll", follow, { capture: true, passive: true });
    return () => el.removeEventListener("scroll", follow, { capture: true });
  }, [view.sync, front]);

  const back = !front;
  return (
    <section class={`task k${Math.min(n, 9)}${view.stacked ? " stacked" : ""}`} aria-hidden={back ? "true" : undefined} {...(back ? { inert: true } : {})}>
      <div class="reading">
        {n > 0 ? <Context fields={layout.context} item={item} view={view} front={front} /> : null}
        {n > 1 && <Dots n={n} grid={grid} />}
        <div class="answers" ref={grid}>
          {n > 0 ? ordered.map((f, i) => <Answer key={f.name} field={f} index={i} desk={desk} item={item} dataset={dataset} layout={layout} view={view} total={n} />)
            : layout.context.map((f) => (
              <article class="answer" key={f.name}>
                <header><h2>{f.title}</h2></header>
                <div class="text" tabIndex={0} role="group" aria-label={f.title}><Value value={item.task.record.fields[f.name]} rich={isRich(f)} mode={view.mode} /></div>
              </article>
            ))}
        </div>
      </div>
      {layout.panel && <Panel questions={layout.panel} dataset={dataset} desk={desk} item={item} front={front} layout={layout} />}
    </section>
  );
}
