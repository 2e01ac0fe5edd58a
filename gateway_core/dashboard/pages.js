// The pages of the dashboard, in the order of the navigation. README.md in this folder says what a page is.

/**
 * `icon`: of lib/icons.js. `key`: the letter after `g` that opens it. `load`: its module, whose default export is the
 * component. `badge(store)`: a number beside its name, 0 for none.
 */
export const PAGES = [
  { id: "overview", title: "Overview", icon: "overview", key: "o", load: () => import("./pages/overview.js") },
  { id: "servers", title: "Servers", icon: "servers", key: "s", load: () => import("./pages/servers.js") },
  { id: "tools", title: "Tools", icon: "tools", key: "l", load: () => import("./pages/tools.js") },
  { id: "calls", title: "Calls", icon: "calls", key: "c", load: () => import("./pages/calls.js") },
  { id: "agents", title: "Agents", icon: "agents", key: "a", load: () => import("./pages/agents.js") },
  { id: "questions", title: "Questions", icon: "questions", key: "q", load: () => import("./pages/questions.js"), badge: ({ status }) => status?.parked ?? 0 },
  { id: "plugins", title: "Plugins", icon: "plugins", key: "p", load: () => import("./pages/plugins.js") },
  { id: "configuration", title: "Configuration", icon: "configuration", key: "f", load: () => import("./pages/configuration.js") },
];
