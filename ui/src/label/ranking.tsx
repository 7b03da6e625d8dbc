// Ranking: a strip of places and a tray of answers. Digits, buttons, Alt+arrows and dragging all make the same tiers.
import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { t } from "../lib/i18n.ts";
import { ariaKeys, useCommands } from "../lib/keys.ts";
import { Button, Cap } from "../lib/parts.tsx";
import { announce } from "../lib/say.tsx";
import type { Tiers } from "../lib/types.ts";
import { drag, grab } from "./drag.ts";
import { letter } from "./layout.ts";
import { digit, type Handlers, type Of, type Props, setter } from "./questions.tsx";
import { dropAt, place, rankIds, rankOf, remove, removeLast, shift, type Spot, tierOf, tiersOf, toEnd } from "./work.ts";

/** What letting go here would make of it, in words; null away from every place. */
function outcome(tiers: Tiers, id: string, spot: Spot | null, names: Map<string, string>): string | null {
  const name = names.get(id)!;
  if (!spot) return null;
  if (spot === "out") return t("rank.dropOut", { name });
  const next = dropAt(tiers, id, spot);
  const others = next[tierOf(next, id)]!.filter((x) => x !== id).map((x) => names.get(x)!);
  return others.length ? t("rank.dropTie", { name, others: others.join(", ") }) : t("rank.drop", { name, rank: rankOf(next, id)! });
}

const chipId = (el: Element | null): string | null => el?.closest<HTMLElement>("[data-chip]")?.dataset["chip"] ?? null;

export function Ranking(p: Props<Of<"ranking">>): JSX.Element {
  const { question: q, item, active, dataset, bar } = p;
  const rows = rankIds(dataset, q.settings.options, item.task.order);
  const names = new Map(rows.map((r, i) => [r.id, r.field ? letter(i) : r.text]));
  const [tieNext, setTieNext] = useState(false);
  const last = useRef<string | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const held = useRef<string | null>(null); // the chip that had the focus before a change
  const tiers = tiersOf(item.work.value.values[q.name]);
  const set = (next: Tiers): void => {
    held.current = box.current?.contains(document.activeElement) ? chipId(document.activeElement) : null;
    setter(p)(next.length ? { value: next } : null);
  };
  useLayoutEffect(() => { // a chip that moved between tray and strip keeps the focus
    const id = held.current;
    held.current = null;
    if (id !== null && !box.current!.contains(document.activeElement))
      [...box.current!.querySelectorAll<HTMLElement>("[data-chip]")].find((e) => e.dataset["chip"] === id)?.focus({ preventScroll: true });
  });

  const placed = (next: Tiers, id: string): void => announce(t("rank.placed", { name: names.get(id)!, rank: rankOf(next, id)!, total: rows.length }));
  const place1 = (id: string): void => {
    if (tierOf(tiers, id) >= 0) { announce(t("rank.already", { name: names.get(id)!, rank: rankOf(tiers, id)! })); return; }
    const next = place(tiers, id, tieNext);
    last.current = id;
    setTieNext(false);
    set(next);
    placed(next, id);
  };
  const takeOut = (id: string): void => { set(remove(tiers, id)); announce(t("rank.out", { name: names.get(id)! })); };
  // The answer that Alt+arrows move: the one that has the focus, else the one placed last.
  const focused = (): string | null => {
    const el = document.activeElement;
    if (box.current?.contains(el) && chipId(el)) return chipId(el);
    const card = el?.closest(".task:not([inert]) .answer");
    const at = card ? [...card.parentElement!.children].indexOf(card) : -1;
    return rows.filter((r) => r.field)[at]?.id ?? last.current ?? tiers.at(-1)?.at(-1) ?? null;
  };
  const moveTo = (id: string, next: Tiers): void => {
    last.current = id;
    set(next);
    announce(t("rank.moved", { name: names.get(id)!, rank: rankOf(next, id)!, total: rows.length }));
  };
  const act = (f: (id: string) => Tiers): void => { const id = focused(); if (id) moveTo(id, f(id)); };
  const drop = (id: string) => (spot: Spot): void => {
    setTieNext(false);
    const now = tiersOf(item.work.value.values[q.name]);
    const next = dropAt(now, id, spot);
    if (next === now) return;
    if (spot === "out") { if (tierOf(now, id) >= 0) takeOut(id); } else moveTo(id, next);
  };
  const keys: Handlers = {
    tie: () => { setTieNext(!tieNext); announce(t(tieNext ? "rank.tieOff" : "rank.tieOn")); },
    unrank: () => { set(removeLast(tiers)); setTieNext(false); },
    up: () => act((id) => shift(tiers, id, -1)), down: () => act((id) => shift(tiers, id, 1)), top: () => act((id) => toEnd(tiers, id, "top")), bottom: () => act((id) => toEnd(tiers, id, "bottom")),
    expand: () => document.activeElement?.closest(".answer")?.classList.toggle("expanded"),
  };
  rows.slice(0, 9).forEach((r, i) => { keys[digit(i + 1)] = () => place1(r.id); });
  useCommands("rank", keys, active);

  const d = drag.value?.question === q.name && active && names.has(drag.value.id) ? drag.value : null;
  const spot = d?.spot ?? null;
  const rest = rows.filter((r) => tierOf(tiers, r.id) < 0);
  const before = spot && spot !== "out" && "before" in spot ? spot.before : -1;
  const mark = (i: number): string => (spot && spot !== "out" && "into" in spot && spot.into === i ? " here" : before === i ? " before" : !rest.length && before === tiers.length && i === before - 1 ? " after" : "");
  const words = d && outcome(tiers, d.id, spot, names);
  return (
    <div class={`ranking${bar ? "" : " upright"}`} ref={box} data-question={q.name} role="group" aria-label={q.title}>
      <div class="slots" role="group" aria-label={t("rank.strip")}>
        {tiers.map((tier, i) => (
          <div class={`slot filled${mark(i)}`} key={tier.join()}>
            <span class="place">{rankOf(tiers, tier[0]!)}</span>
            {tier.map((id) => (
              <button type="button" key={id} class={`chip${d?.id === id ? " lifted" : ""}`} data-chip={id} aria-label={t("rank.takeOut", { name: names.get(id)! })}
                onPointerDown={(e) => grab(e, q.name, id, drop(id))} onClick={() => takeOut(id)}>{names.get(id)}</button>
            ))}
            {tieNext && i === tiers.length - 1 && <span class="chip open">=</span>}
          </div>
        ))}
        {rest.map((r, i) => <div class={`slot${before === tiers.length && i === 0 ? " here" : ""}`} key={r.id}><span class="place">{tiers.flat().length + i + 1}</span></div>)}
      </div>
      <div class={`tray${spot === "out" ? " here" : ""}`} role="group" aria-label={t("rank.tray")}>
        {rows.map((r, i) => {
          const used = tierOf(tiers, r.id) >= 0;
          return (
            <button type="button" key={r.id} class={`chip${used ? " used" : ""}${d?.id === r.id && !used ? " lifted" : ""}`} data-chip={r.id} aria-disabled={used} aria-keyshortcuts={i < 9 ? ariaKeys(digit(i + 1)) : undefined}
              onPointerDown={(e) => { if (!used) grab(e, q.name, r.id, drop(r.id)); }} onClick={() => place1(r.id)}>
              {names.get(r.id)}{i < 9 && <Cap of={digit(i + 1)} />}
            </button>
          );
        })}
        <Button command="tie" class={`small${tieNext ? " set" : ""}`} aria-pressed={tieNext} disabled={!tiers.length || !rest.length} onClick={keys.tie}>{t("rank.tie")}</Button>
        <Button tone="quiet" command="unrank" class="small" disabled={!tiers.length} onClick={keys.unrank}>{t("rank.undo")}</Button>
      </div>
      {d && <div class={`ghost${words ? "" : " nowhere"}`} aria-hidden="true" style={{ transform: `translate(${d.x}px, ${d.y}px)` }}><span>{words ?? names.get(d.id)}</span></div>}
    </div>
  );
}
