// Where this page is, which class its address names, and how it moves to another address with all
// that it has: behind a "#", which no server is sent.

const CODE = /\/j\/([^/]*)\/?$/i;

export const base = new URL("../", location.href);

export function codeOf(address = location.href) {
  const found = CODE.exec(new URL(address).pathname);
  return found ? tidy(decodeURIComponent(found[1])) : "";
}

// A code as it is compared: people write it small, and with blanks.
export const tidy = code => code.replace(/\s/g, "").toUpperCase().slice(0, 20);

// The address that somebody was told (perhaps only "192.168.1.30:8642"), for this class. Throws an
// Error with a sentence.
export function newAddress(told, code, carried) {
  const text = told.trim();
  let url;
  try {
    url = new URL(/^https?:\/\//i.test(text) ? text : `http://${text}`);
  } catch {
    url = null;
  }
  if (!text || !url) throw new Error("This is no address. Expected one such as 192.168.1.30:8642.");
  const named = CODE.exec(url.pathname);
  if (!named) url.pathname = `${url.pathname.replace(/\/?$/, "/")}J/${code}`;
  else if (!named[1]) url.pathname = url.pathname.replace(/\/?$/, `/${code}`);
  url.search = "";
  url.hash = `carried=${encodeURIComponent(JSON.stringify(carried))}`;
  return url.href;
}

// Whether this is the page's own address, whatever is behind the "#": nothing would load, and what
// is carried would stay in the address bar.
export function isHere(address) {
  const [there, here] = [address, location.href].map(one => one.split("#")[0]);
  return there === here;
}

// What was carried to here, once: it is taken out of the address bar. null where there is nothing.
export function takeCarried() {
  const text = location.hash;
  if (!text.startsWith("#carried=")) return null;
  history.replaceState(null, "", location.pathname);
  try {
    return JSON.parse(decodeURIComponent(text.slice("#carried=".length)));
  } catch {
    return null;
  }
}
