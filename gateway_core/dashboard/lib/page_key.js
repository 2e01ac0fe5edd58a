// The page key: the half of a sign-in that pages of this port alone can read. The other half is the cookie.

const NAME = "radium.page-key";
let key = ""; // where nothing can be stored, the sign-in lasts as long as the page

/** Take the key out of the address, if the browser comes from a sign-in. To be called before anything reads the address. */
export function takePageKey() {
  const given = /^#key=([\w-]+)$/.exec(location.hash);
  if (!given) return;
  key = given[1];
  history.replaceState(null, "", location.pathname + location.search);
  try {
    localStorage.setItem(NAME, key);
  } catch {
    // Kept in the variable.
  }
}

/** The header that carries the key. Another tab may have signed in since the last request. */
export function pageKey() {
  try {
    key = localStorage.getItem(NAME) ?? key;
  } catch {
    // As it was.
  }
  return key ? { "Radium-Page-Key": key } : {};
}
