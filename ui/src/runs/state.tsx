import type { JSX } from "preact";
import { tr } from "../lib/i18n.ts";
import type { JobState } from "../lib/types.ts";

/** The state in words, with a shape of its own: never by colour alone. */
export function StateBadge({ state }: { state: JobState }): JSX.Element {
  return <span class={`state ${state}`}><i aria-hidden="true" />{tr(`state.${state}`, state)}</span>;
}
