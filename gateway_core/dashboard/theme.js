// Sets the chosen theme before the page is painted; a script of its own, because the page allows no inline ones.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("radium.theme");
  } catch {
    // Without storage the theme is that of the system.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
