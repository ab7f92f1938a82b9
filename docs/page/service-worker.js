/* Adds the headers that allow threads (cross-origin isolation), which static hosts such as GitHub Pages cannot send. */

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

async function withHeaders(request) {
  const response = await fetch(request);
  if (response.status === 0 || response.type === "opaqueredirect") return response; // these cannot be copied
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.oninstall = () => self.skipWaiting();
self.onactivate = (event) => event.waitUntil(self.clients.claim());
self.onfetch = (event) => event.respondWith(withHeaders(event.request));
