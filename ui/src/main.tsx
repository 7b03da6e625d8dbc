// Where the page starts: who is there, which screen the address names, and the parts that stand over every screen.
import { type ComponentType, type JSX, render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { t } from "./lib/i18n.ts";
import { lazy } from "./lib/lazy.tsx";
import { Failure, Later } from "./lib/parts.tsx";
import { path } from "./lib/router.tsx";
import { Announcements } from "./lib/say.tsx";
import { bootError, expired, loadMe, me } from "./lib/session.ts";
import type { Scope } from "./lib/commands.ts";
import { helpFor } from "./lib/help.ts";
import LabelPage, { fetchAside } from "./label/page.tsx";
import { moreStyle } from "./lib/style.ts";

type Screen = ComponentType<{ id: string }>;
type Loader = () => Promise<{ default: Screen }>;
const dressed = (code: Promise<{ default: Screen }>): Promise<{ default: Screen }> => Promise.all([code, moreStyle()]).then(([m]) => m);
const ROUTES: [RegExp, Loader][] = [
  [/^\/$/, () => dressed(import("./dataset/home.tsx"))],
  [/^\/datasets\/([^/]+)\/label$/, () => Promise.resolve({ default: LabelPage })],
  [/^\/datasets\/([^/]+)\/records$/, () => dressed(import("./dataset/records.tsx"))],
  [/^\/datasets\/([^/]+)$/, () => dressed(import("./dataset/page.tsx"))],
  [/^\/runs$/, () => dressed(import("./runs/list.tsx"))],
  [/^\/runs\/([^/]+)$/, () => dressed(import("./runs/page.tsx"))],
  [/^\/users$/, () => dressed(import("./people/page.tsx"))],
];

const loaded = new Map<Loader, Screen>();
function route(): { id: string; load: Loader } | null {
  for (const [rule, load] of ROUTES) {
    const m = rule.exec(path.value);
    if (m) return { id: m[1] ?? "", load };
  }
  return null;
}
const fetchScreen = (load: Loader): Promise<Screen> => load().then((m) => { loaded.set(load, m.default); return m.default; });

function Screens(): JSX.Element {
  const now = route();
  const [, again] = useState(0);
  const [error, setError] = useState<string | null>(null);
  const ready = now ? loaded.get(now.load) : undefined;
  useEffect(() => {
    setError(null);
    if (now && !ready) fetchScreen(now.load).then(() => again((n) => n + 1), () => setError(t("error.chunk")));
  }, [now?.load]);
  if (!now) return <main class="centre"><h1>{t("notFound")}</h1><a href="/">{t("nav.datasets")}</a></main>;
  if (error) return <main class="centre"><Failure message={error} again={() => location.reload()} /></main>;
  const At = ready;
  return At ? <At id={now.id} key={path.value} /> : <main class="centre" aria-busy="true" />;
}

const fetchHelp = (): Promise<ComponentType<{ scopes: Scope[] }>> => Promise.all([import("./lib/help-sheet.tsx"), moreStyle()]).then(([m]) => m.default);
const Help = lazy(fetchHelp);
const SignInPage = lazy(() => import("./signin/page.tsx").then((m) => m.SignInPage));
const SignInAgain = lazy(() => import("./signin/page.tsx").then((m) => m.SignInAgain));

function App(): JSX.Element {
  if (bootError.value) return <main class="centre"><Failure message={bootError.value} again={() => void loadMe()} /></main>;
  if (me.value === undefined) return <main class="centre" aria-busy="true"><Later><p class="quiet">{t("loading")}</p></Later></main>;
  if (me.value === null || path.value === "/sign-in") return <SignInPage />;
  return <Screens />;
}

function Root(): JSX.Element {
  return <><App />{helpFor.value && <Help scopes={helpFor.value.filter((s) => s !== "dialog")} />}{expired.value && <SignInAgain />}<Announcements /></>;
}

const first = route(); // the screen's code travels while the server says who we are
if (first) void fetchScreen(first.load).catch(() => {});
void loadMe();
// What a labeler may ask for while offline is fetched as soon as nothing else is going on.
setTimeout(() => { void fetchAside().catch(() => {}); void fetchHelp().catch(() => {}); void import("./text/diff.ts").catch(() => {}); void import("./signin/page.tsx").catch(() => {}); }, 2000);
render(<Root />, document.getElementById("app")!);
