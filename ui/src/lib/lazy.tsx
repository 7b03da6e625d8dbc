// Parts of the page whose code comes when they are first shown.
import { type ComponentType, h, type JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { t } from "./i18n.ts";
import { complain } from "./say.tsx";

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): (props: P) => JSX.Element | null {
  let part: ComponentType<P> | null = null;
  return (props) => {
    const [, again] = useState(0);
    useEffect(() => { if (!part) load().then((p) => { part = p; again((n) => n + 1); }, () => { complain(t("error.chunk")); }); }, []);
    return part ? h(part, props) : null;
  };
}
