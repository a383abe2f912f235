/** Asking the admin API: one GET, a deadline, and an error that is a sentence. */

const PATIENCE = 20_000; // milliseconds; a mesh of many sidecars may take its time over two days

/** What went wrong, in words; `status` is 0 where there was no answer. */
export class NoAnswer extends Error {
  constructor(words, status = 0) {
    super(words);
    this.status = status;
  }
}

/** Return the JSON at `path` with these parameters. Throws NoAnswer. */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== null));
  const url = query.size > 0 ? `${path}?${query}` : path;
  let response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE), headers: { accept: "application/json" } });
  } catch (error) {
    throw new NoAnswer(error.name === "TimeoutError" ? `${path} took too long to answer` : "nothing answers any more");
  }
  if (!response.ok) throw new NoAnswer(await words(response), response.status);
  try {
    return await response.json();
  } catch {
    throw new NoAnswer(`what ${path} answered is no JSON`, response.status);
  }
}

async function words(response) {
  const text = (await response.text()).slice(0, 2000).trim();
  try {
    const { reason, error, detail } = JSON.parse(text);
    return reason ?? error ?? detail ?? text;
  } catch {
    return text || `HTTP ${response.status}`;
  }
}
