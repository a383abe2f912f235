// Before anything is shown: the theme that was chosen here, else that of the system (style/base.css).
try {
  const chosen = localStorage.getItem("meshproxy-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // a browser without storage follows the system
}
