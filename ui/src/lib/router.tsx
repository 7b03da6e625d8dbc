// The address bar as a signal, and links that move without loading a page.
import { signal } from "@preact/signals";
import type { ComponentChildren, AnchorHTMLAttributes, JSX } from "preact";

export const path = signal(location.pathname);
export const query = signal(new URLSearchParams(location.search));

function read(): void {
  path.value = location.pathname;
  query.value = new URLSearchParams(location.search);
}
addEventListener("popstate", read);

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  read();
  if (!replace) scrollTo(0, 0);
}

type LinkProps = Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href" | "class" | "children"> & { href: string; children?: ComponentChildren; class?: string };
export function Link({ href, ...rest }: LinkProps): JSX.Element {
  const follow = (e: MouseEvent): void => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    go(href);
  };
  return <a {...(rest as object)} href={href} onClick={follow} />;
}
