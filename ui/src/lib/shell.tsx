// What every screen has: the wordmark, the theme button, the keys that work everywhere.
import type { JSX } from "preact";
import { openHelp } from "./help.ts";
import { t } from "./i18n.ts";
import { Icon, Mark } from "./icons.tsx";
import { useCommands } from "./keys.ts";
import { Link } from "./router.tsx";
import { announce } from "./say.tsx";
import { cycleTheme, theme } from "./theme.ts";

export function ThemeButton(): JSX.Element {
  const now = theme.value;
  return (
    <button type="button" class="icon-button" aria-label={t("theme.button", { name: t(`theme.${now}`) })} title={t("theme.button", { name: t(`theme.${now}`) })} onClick={() => announce(t(`theme.${cycleTheme()}`))}>
      <Icon name={now === "auto" ? "auto" : now === "dark" ? "moon" : "sun"} />
    </button>
  );
}

export function Wordmark(): JSX.Element {
  return <Link href="/" class="wordmark" aria-label="Podium"><Mark /><span>Podium</span></Link>;
}

/** Keys that hold on every screen. */
export function useAppKeys(): void {
  useCommands("app", { help: openHelp, theme: () => announce(t(`theme.${cycleTheme()}`)) });
}
