// Every command with a key, once: the handlers, the help sheet and the key caps on buttons all read this table.
import type { Key } from "./i18n.ts";

export type Scope = "app" | "label" | "pair" | "rank" | "question" | "run" | "records" | "dialog";
export interface Command {
  scope: Scope;
  keys: string[];
  label: Key;
  /** Keys that also work while typing in a field. */
  inFields?: string[];
  /** Works while a button has the focus, where Enter and Space belong to the button otherwise. */
  overControls?: boolean;
  repeats?: boolean;
  /** Not held back in the first moments after a new task. */
  early?: boolean;
}

const digits = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => String(from + i));
const one = (scope: Scope, label: Key, ...keys: string[]): Command => ({ scope, keys, label });

const numbered = {} as Record<`digit${1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 0}`, Command>;
for (const d of digits(0, 9)) numbered[`digit${d}` as keyof typeof numbered] = one("question", "key.digit", d);

export const COMMANDS = {
  help: one("app", "key.help", "?", "Shift+?"),
  theme: one("app", "key.theme", "T", "Shift+T"),

  submit: { ...one("label", "key.submit", "Enter", "Mod+Enter"), inFields: ["Mod+Enter"] },
  skip: one("label", "key.skip", "s"),
  flag: one("label", "key.flag", "f"),
  why: one("label", "key.why", "c"),
  leave: { ...one("label", "key.leave", "Escape"), inFields: ["Escape"], early: true },
  discard: one("label", "key.discard", "Shift+Delete"),
  undo: { ...one("label", "key.undo", "Mod+z"), early: true },
  redo: { ...one("label", "key.redo", "Mod+Shift+z", "Mod+y"), early: true },
  save: { ...one("label", "key.save", "Mod+s"), inFields: ["Mod+s"], early: true },
  previous: { ...one("label", "key.previous", "["), early: true },
  next: { ...one("label", "key.next", "]"), early: true },
  nextAnswer: { ...one("label", "key.nextAnswer", "j"), repeats: true, early: true },
  previousAnswer: { ...one("label", "key.previousAnswer", "k"), repeats: true, early: true },
  raw: { ...one("label", "key.raw", "m"), early: true },
  diff: { ...one("label", "key.diff", "d"), early: true },
  sync: { ...one("label", "key.sync", "y"), early: true },
  prompt: { ...one("label", "key.prompt", "e"), early: true },
  guidelines: { ...one("label", "key.guidelines", "g"), early: true },
  layout: { ...one("label", "key.layout", "v"), early: true },
  pause: { ...one("label", "key.pause", "p"), early: true },

  ...numbered,
  left: { ...one("pair", "key.left", "Left"), repeats: true },
  right: { ...one("pair", "key.right", "Right"), repeats: true },
  bothBad: one("pair", "key.bothBad", "x"),
  same: one("pair", "key.same", "t"),

  tie: one("rank", "key.tie", "=", "t"),
  unrank: { ...one("rank", "key.unrank", "Backspace"), repeats: true },
  up: { ...one("rank", "key.up", "Alt+Up"), repeats: true },
  down: { ...one("rank", "key.down", "Alt+Down"), repeats: true },
  top: one("rank", "key.top", "Alt+Home"),
  bottom: one("rank", "key.bottom", "Alt+End"),
  expand: one("rank", "key.expand", "Space"),

  questionNext: { ...one("question", "key.questionNext", "Down"), repeats: true },
  questionPrevious: { ...one("question", "key.questionPrevious", "Up"), repeats: true },

  sampleNext: { ...one("run", "key.sampleNext", "j"), repeats: true },
  samplePrevious: { ...one("run", "key.samplePrevious", "k"), repeats: true },
  runDiff: one("run", "key.runDiff", "d"),
  log: one("run", "key.log", "l"),

  close: { ...one("dialog", "key.close", "Escape"), inFields: ["Escape"], early: true },
  choose1: one("dialog", "key.digit", "1"),
  choose2: one("dialog", "key.digit", "2"),
  choose3: one("dialog", "key.digit", "3"),
  choose4: one("dialog", "key.digit", "4"),
  choose5: one("dialog", "key.digit", "5"),
} satisfies Record<string, Command>;

export type CommandId = keyof typeof COMMANDS;
