// One control for each kind of question. In the answer bar a control lies in one row; in the side panel it stands under its title.
import type { ComponentChildren, JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { t, type Key } from "../lib/i18n.ts";
import type { CommandId } from "../lib/commands.ts";
import { ariaKeys, keysOf, useCommands } from "../lib/keys.ts";
import { Button, Cap } from "../lib/parts.tsx";
import type { Answer, Dataset, Option, Question } from "../lib/types.ts";
import { Reader } from "../text/reader.tsx";
import type { Desk, Item } from "./desk.ts";
import type { Layout } from "./layout.ts";
import { Ranking } from "./ranking.tsx";
import { answered, bothBad, moved, pairAt, stepOf, withValue } from "./work.ts";

export interface Props<Q extends Question = Question> { question: Q; dataset: Dataset; layout: Layout; desk: Desk; item: Item; active: boolean; bar?: boolean }
export type Of<T extends Question["type"]> = Extract<Question, { type: T }>;
type Digit = `digit${0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9}`;
export type Handlers = Partial<Record<CommandId, () => void>>;

export const digit = (n: number): Digit => `digit${n}` as Digit;
export const setter = (p: Pick<Props, "desk" | "question">) => (a: Answer | null): void => p.desk.edit((w) => withValue(w, p.question.name, a));

/* Pairs */

const SEVEN: [step: number, key: Key, short: string, dots: number][] = [
  [1, "pair.1", "A", 3], [2, "pair.2", "A", 2], [3, "pair.3", "A", 1], [4, "pair.4", "=", 0], [5, "pair.5", "B", 1], [6, "pair.6", "B", 2], [7, "pair.7", "B", 3],
];
// Without strength: A, same, B under the keys 1, 0 and 2.
const THREE: [step: number, key: Key, digit: number][] = [[2, "pair.a", 1], [4, "pair.4", 0], [6, "pair.b", 2]];

function Segment({ name, checked, on, cap, children, onPick, title }: { name: string; checked: boolean; on: boolean; cap: CommandId; children: ComponentChildren; onPick: () => void; title: string }): JSX.Element {
  return (
    <label class={`segment${checked ? " pick" : on ? " on" : ""}`}>
      <input type="radio" name={name} checked={checked} aria-label={title} aria-keyshortcuts={ariaKeys(cap)} onChange={onPick} onClick={onPick} />
      <Cap of={cap} />
      <span aria-hidden="true">{children}</span>
    </label>
  );
}

function Pair(p: Props<Of<"pairwise">>): JSX.Element {
  const { question: q, item, active } = p;
  const order = item.task.order;
  const set = setter(p);
  const answer = item.work.value.values[q.name];
  const graded = q.settings.strength;
  const step = stepOf(order, answer);
  const bad = answer?.both_bad === true;
  const pick = (n: number): void => set(pairAt(order, n, graded));
  const setBad = (): void => { if (q.settings.both_bad) set(bad ? null : bothBad(order, graded)); };

  const keys: Handlers = { left: () => pick(graded ? moved(step, -1) : 2), right: () => pick(graded ? moved(step, 1) : 6), same: () => pick(4), bothBad: setBad };
  if (graded) for (const [n] of SEVEN) keys[digit(n)] = () => pick(n);
  else { for (const [n, , d] of THREE) keys[digit(d)] = () => pick(n); keys[digit(9)] = setBad; }
  useCommands("pair", keys, active);

  const group = `pair-${item.task.record.id}-${q.name}`;
  const lit = (n: number): boolean => step !== null && ((n > step && n < 4) || (n < step && n > 4));
  return (
    <div class="pair">
      <div class={`scale${graded ? "" : " coarse"}${bad ? " off" : ""}`} role="radiogroup" aria-label={q.title}>
        {graded
          ? SEVEN.map(([n, key, short, dots]) => (
            <Segment key={n} name={group} checked={step === n} on={lit(n)} cap={digit(n)} title={t(key)} onPick={() => pick(n)}>
              <span class="long">{t(key)}</span><span class="short"><b>{short}</b><i>{"•".repeat(dots)}</i></span>
            </Segment>
          ))
          : THREE.map(([n, key, d]) => <Segment key={n} name={group} checked={step !== null && Math.sign(step - 4) === Math.sign(n - 4)} on={false} cap={digit(d)} title={t(key)} onPick={() => pick(n)}>{t(key)}</Segment>)}
      </div>
      {q.settings.both_bad && <Button command="bothBad" class={`both-bad${bad ? " set" : ""}`} aria-pressed={bad} onClick={setBad}>{t("bothBad")}</Button>}
    </div>
  );
}

/* Ratings, labels, text */

function Choices({ q, options, chosen, many, onPick, item }: { q: Question; options: { key: string; text: string; title?: string }[]; chosen: Set<string>; many: boolean; onPick: (key: string) => void; item: Item }): JSX.Element {
  return (
    <div class="choices" role={many ? "group" : "radiogroup"} aria-label={q.title}>
      {options.map((o, i) => (
        <label key={o.key} class={`choice${chosen.has(o.key) ? " pick" : ""}`} title={o.title}>
          <input type={many ? "checkbox" : "radio"} name={`${item.task.record.id}-${q.name}`} checked={chosen.has(o.key)} aria-keyshortcuts={i < 9 ? ariaKeys(digit(i + 1)) : undefined} onChange={() => onPick(o.key)} />
          <span dir="auto">{o.text}</span>
          {i < 9 && o.text !== keysOf(digit(i + 1))[0] && <Cap of={digit(i + 1)} />}
        </label>
      ))}
    </div>
  );
}

function Rating(p: Props<Of<"rating">>): JSX.Element {
  const { question: q, item, active } = p;
  const value = item.work.value.values[q.name]?.value;
  const set = setter(p);
  const keys: Handlers = {};
  // A digit is the value itself where every value is a digit; else its place.
  const direct = q.settings.options.every((o) => o >= 0 && o <= 9);
  q.settings.options.forEach((o, i) => { if (direct || i < 9) keys[digit(direct ? o : i + 1)] = () => set({ value: o }); });
  useCommands("question", keys, active);
  return (
    <div class="choices rating" role="radiogroup" aria-label={q.title}>
      {q.settings.options.map((o, i) => (
        <label key={o} class={`choice${value === o ? " pick" : ""}`}>
          <input type="radio" name={`${item.task.record.id}-${q.name}`} checked={value === o} aria-label={String(o)} onChange={() => set({ value: o })} />
          <span aria-hidden="true">{o}</span>{(direct ? keysOf(digit(o))[0] !== String(o) : i < 9) && <Cap of={digit(direct ? o : i + 1)} />}
        </label>
      ))}
    </div>
  );
}

function Label(p: Props<Of<"label_selection" | "multi_label_selection">>): JSX.Element {
  const { question: q, item, active } = p;
  const many = q.type === "multi_label_selection";
  const value = item.work.value.values[q.name]?.value;
  const chosen = new Set<string>(many ? (Array.isArray(value) ? value as string[] : []) : typeof value === "string" ? [value] : []);
  const set = setter(p);
  const pick = (v: string): void => {
    if (!many) { set({ value: v }); return; }
    const next = q.settings.options.map((o) => o.value).filter((x) => (x === v ? !chosen.has(x) : chosen.has(x)));
    set(next.length ? { value: next } : null);
  };
  const keys: Handlers = {};
  q.settings.options.slice(0, 9).forEach((o, i) => { keys[digit(i + 1)] = () => pick(o.value); });
  useCommands("question", keys, active);
  const options = q.settings.options.map((o: Option) => ({ key: o.value, text: o.text, ...(o.description ? { title: o.description } : {}) }));
  return <Choices q={q} options={options} chosen={chosen} many={many} onPick={pick} item={item} />;
}

function Text(p: Props<Of<"text">>): JSX.Element {
  const { question: q, item, desk, active } = p;
  const burst = useRef(false);
  const value = item.work.value.values[q.name]?.value;
  useCommands("question", {}, active);
  return (
    <textarea class="text-answer" rows={3} dir="auto" aria-label={q.title} value={typeof value === "string" ? value : ""}
      onInput={(e) => { const text = e.currentTarget.value; desk.type((w) => withValue(w, q.name, text ? { value: text } : null), burst.current); burst.current = true; }}
      onBlur={() => { burst.current = false; desk.saveNow(); }} />
  );
}

export function Control(p: Props): JSX.Element | null {
  const q = p.question;
  switch (q.type) {
    case "pairwise": return <Pair {...p} question={q} />;
    case "ranking": return <Ranking {...p} question={q} />;
    case "rating": return <Rating {...p} question={q} />;
    case "label_selection": case "multi_label_selection": return <Label {...p} question={q} />;
    case "text": return <Text {...p} question={q} />;
    default: return null;
  }
}

/** Several questions: one of them listens to the digits; answering it moves on to the next open one. */
export function Panel({ questions, dataset, desk, item, front, layout }: { questions: Question[]; dataset: Dataset; desk: Desk; item: Item; front: boolean; layout: Layout }): JSX.Element {
  const [at, setAt] = useState(() => Math.max(0, questions.findIndex((q) => !answered(q, item.work.value.values[q.name]))));
  const box = useRef<HTMLElement>(null);
  const values = item.work.value.values;
  const wanting = front ? desk.wanting.value : null;
  const now = questions[at];
  const done = now ? answered(now, values[now.name]) : false;
  const was = useRef(done);
  const move = (to: number, focus: boolean): void => {
    const next = Math.min(questions.length - 1, Math.max(0, to));
    setAt(next);
    const row = box.current?.children[next] as HTMLElement | undefined;
    row?.scrollIntoView({ block: "nearest" });
    if (focus && questions[next]?.type === "text") row?.querySelector("textarea")?.focus();
  };
  useLayoutEffect(() => {
    if (done && !was.current && now && now.type !== "text" && now.type !== "multi_label_selection") {
      const open = questions.findIndex((q, i) => i > at && !answered(q, values[q.name]));
      if (open >= 0) move(open, false);
    }
    was.current = done;
  }, [done]);
  useLayoutEffect(() => { was.current = done; }, [at]);
  useLayoutEffect(() => {
    const i = questions.findIndex((q) => q.name === wanting);
    if (i >= 0) move(i, true);
  }, [wanting]);
  useCommands("question", { questionNext: () => move(at + 1, true), questionPrevious: () => move(at - 1, true) }, front);
  return (
    <section class="panel" aria-label={t("label.questions")} ref={box}>
      {questions.map((q, i) => (
        <div key={q.id} class={`question${i === at ? " now" : ""}${wanting === q.name ? " wanted" : ""}`} onFocusCapture={() => setAt(i)} onPointerDown={() => setAt(i)}>
          <h3>{q.title}{q.required && <span class="quiet"> {t("required")}</span>}</h3>
          {q.description && <div class="hint"><Reader text={q.description} rich /></div>}
          <Control question={q} dataset={dataset} layout={layout} desk={desk} item={item} active={front && i === at} />
        </div>
      ))}
      {layout.unsupported.map((q) => <p key={q.id} class="quiet">{t("label.unsupported", { title: q.title })}</p>)}
    </section>
  );
}
