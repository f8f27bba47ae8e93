// The view as one file without a server: the state stands behind the # of the address.

import { mount } from "./view.js";

const start = () => mount(document.querySelector("main"), {
  query: location.hash.slice(1),
  onQuery: (query) => history.replaceState(null, "", `#${new URLSearchParams(query)}`),
});

let end = start();
addEventListener("hashchange", () => {
  end();
  end = start();
});
