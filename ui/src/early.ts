// Runs before the first paint, so that a theme chosen by hand never flashes the other one.
const chosen = localStorage.getItem("podium.theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset["theme"] = chosen;
