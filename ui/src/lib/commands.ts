// Every command with a key, once: the handlers, the help sheet and the key caps on buttons all read this table. Its words are `key.ID` in the catalogue.
export type Scope = "app" | "label" | "pair" | "rank" | "question" | "run" | "records" | "dialog";
export interface Command {
  scope: Scope;
  keys: string[];
  /** Keys that also work while typing in a field. */
  inFields?: string[];
  /** Works while a button has the focus, where Enter and Space belong to the button otherwise. */
  overControls?: boolean;
  repeats?: boolean;
  /** Not held back in the first moments after a new task. */
  early?: boolean;
}

const digits = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => String(from + i));
const one = (scope: Scope, ...keys: string[]): Command => ({ scope, keys });

const numbered = {} as Record<`digit${1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 0}`, Command>;
for (const d of digits(0, 9)) numbered[`digit${d}` as keyof typeof numbered] = one("question", d);

export const COMMANDS = {
  help: one("app", "?", "Shift+?"),
  theme: one("app", "T", "Shift+T"),

  submit: { ...one("label", "Enter", "Mod+Enter"), inFields: ["Mod+Enter"] },
  skip: one("label", "s"),
  flag: one("label", "f"),
  why: one("label", "c"),
  leave: { ...one("label", "Escape"), inFields: ["Escape"], early: true },
  discard: one("label", "Shift+Delete"),
  undo: { ...one("label", "Mod+z"), early: true },
  redo: { ...one("label", "Mod+Shift+z", "Mod+y"), early: true },
  save: { ...one("label", "Mod+s"), inFields: ["Mod+s"], early: true },
  previous: { ...one("label", "["), early: true },
  next: { ...one("label", "]"), early: true },
  nextAnswer: { ...one("label", "j"), repeats: true, early: true },
  previousAnswer: { ...one("label", "k"), repeats: true, early: true },
  raw: { ...one("label", "m"), early: true },
  diff: { ...one("label", "d"), early: true },
  sync: { ...one("label", "y"), early: true },
  prompt: { ...one("label", "e"), early: true },
  guidelines: { ...one("label", "g"), early: true },
  layout: { ...one("label", "v"), early: true },
  pause: { ...one("label", "p"), early: true },

  ...numbered,
  left: { ...one("pair", "Left"), repeats: true },
  right: { ...one("pair", "Right"), repeats: true },
  bothBad: one("pair", "x"),
  same: one("pair", "t"),

  tie: one("rank", "=", "t"),
  unrank: { ...one("rank", "Backspace"), repeats: true },
  up: { ...one("rank", "Alt+Up"), repeats: true },
  down: { ...one("rank", "Alt+Down"), repeats: true },
  top: one("rank", "Alt+Home"),
  bottom: one("rank", "Alt+End"),
  expand: one("rank", "Space"),

  questionNext: { ...one("question", "Down"), repeats: true },
  questionPrevious: { ...one("question", "Up"), repeats: true },

  sampleNext: { ...one("run", "j"), repeats: true },
  samplePrevious: { ...one("run", "k"), repeats: true },
  runDiff: one("run", "d"),
  log: one("run", "l"),

  close: { ...one("dialog", "Escape"), inFields: ["Escape"], early: true },
  choose1: one("dialog", "1"),
  choose2: one("dialog", "2"),
  choose3: one("dialog", "3"),
  choose4: one("dialog", "4"),
  choose5: one("dialog", "5"),
} satisfies Record<string, Command>;

export type CommandId = keyof typeof COMMANDS;
