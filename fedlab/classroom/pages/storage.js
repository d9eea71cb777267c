// What a phone keeps of a class when the page is closed: texts in localStorage, models in
// IndexedDB. Where a browser keeps nothing (a private window may not) all works, and is gone with
// the page.

const memory = new Map();

function box() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

// {get, set, heard}: of one class, by its code.
export function storage(code) {
  const key = name => `fedlab.${code}.${name}`;
  return {
    get(name, otherwise = null) {
      try {
        const kept = box()?.getItem(key(name)) ?? memory.get(key(name)) ?? "null";
        return JSON.parse(kept) ?? otherwise;
      } catch {
        return otherwise;
      }
    },
    // Whether it will be there after a reload.
    set(name, value) {
      memory.set(key(name), JSON.stringify(value));
      try {
        box().setItem(key(name), JSON.stringify(value));
        return true;
      } catch {
        return false;
      }
    },
    // Call `changed` with the new value when another tab has set this.
    heard(name, changed) {
      addEventListener("storage", event => {
        if (event.key === key(name) && event.newValue) changed(JSON.parse(event.newValue));
      });
    },
  };
}

// The same for the models that a phone compares with, by class: too large for localStorage.
export const models = {
  read: code => asked("readonly", all => all.get(code)).then(found => found ?? {}, () => ({})),
  write: (code, value) => asked("readwrite", all => all.put(value, code)).catch(() => {}),
};

function asked(mode, what) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("fedlab", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("models");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      try {
        const request = what(database.transaction("models", mode).objectStore("models"));
        request.onerror = () => reject(request.error);
        request.onsuccess = () => resolve(request.result);
      } catch (error) {
        reject(error);
      }
      database.close(); // when this is done
    };
  });
}

// Random letters that nobody guesses. (crypto.randomUUID is not there without a certificate.)
export function secret() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}
