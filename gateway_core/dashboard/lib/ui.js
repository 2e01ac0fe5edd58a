// The view library: Preact with htm. Every module imports it from here.
import { Component, Fragment, createContext, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { Component, Fragment, createContext, h, render };
export {
  useCallback,
  useContext,
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "../vendor/preact-hooks.js";

/** Tagged template: makes elements. Text in it is text, never markup. */
export const html = htm.bind(h);

/** Class names from a mixture of strings and conditions. */
export const cls = (...names) => names.filter(Boolean).join(" ");
