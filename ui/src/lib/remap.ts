// Keys that people choose for themselves: what may be chosen, and what would clash.
import { COMMANDS, type CommandId, type Scope } from "./commands.ts";

/** Scopes that can be heard at the same time; a key means one thing in each of these. */
const TOGETHER: Scope[][] = [["app", "label", "pair", "question"], ["app", "label", "rank", "question"], ["app", "run"], ["app", "records"]];
const FIXED = new Set<CommandId>(["leave", "close"]); // Escape always leads out
const RESERVED = /^(Tab|Shift\+Tab|Escape|F\d+|Mod\+[acfnlpqrtvwx\d]|Alt\+(Left|Right|d|f|F4))$/;

export type Keys = Record<string, string>;

export const canChange = (id: CommandId): boolean => COMMANDS[id].scope !== "dialog" && !FIXED.has(id);
export const isReserved = (key: string): boolean => RESERVED.test(key);
const meant = (id: CommandId, keys: Keys): string[] => (keys[id] ? [keys[id], ...COMMANDS[id].keys.slice(1)] : COMMANDS[id].keys);

/** The command that `key` means already wherever `id` is heard. */
export function takenBy(id: CommandId, key: string, keys: Keys): CommandId | null {
  const { scope } = COMMANDS[id];
  return (Object.keys(COMMANDS) as CommandId[]).find((other) => other !== id && meant(other, keys).includes(key)
    && TOGETHER.some((s) => s.includes(scope) && s.includes(COMMANDS[other].scope))) ?? null;
}
/** `keys` with `id` called by `key`; choosing the standard key forgets the choice. */
export function withKey(keys: Keys, id: CommandId, key: string): Keys {
  const { [id]: _, ...rest } = keys;
  return COMMANDS[id].keys[0] === key ? rest : { ...rest, [id]: key };
}

/** Everything within reach of the left hand, the right one on the mouse. */
export const LEFT_HAND: Keys = { digit6: "q", digit7: "w", submit: "r", nextAnswer: "a", previousAnswer: "z", pause: "b" };
