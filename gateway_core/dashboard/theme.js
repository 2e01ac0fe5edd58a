// Sets the chosen theme before the page is painted; a separate file, because the page allows no inline script.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("radium.theme");
  } catch {
    // Without storage the theme is that of the system.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
