// Asks the studio's server. What it refuses is told in its own words, which are those of the command line.

import { t } from "./language.js";

export class Refusal extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function ask(method, path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: method === "GET" ? {} : { "Content-Type": "application/json" },
      body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    dispatchEvent(new CustomEvent("studio-gone"));
    throw new Refusal(t("error.gone"), 0, "gone");
  }
  dispatchEvent(new CustomEvent("studio-there"));
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

async function refusalOf(answer) {
  let told = {};
  try { told = (await answer.json()).error ?? {}; } catch { /* it is no JSON */ }
  if (answer.status === 401) dispatchEvent(new CustomEvent("session-over"));
  return new Refusal(told.message ?? t("error.status", { status: answer.status }), answer.status, told.code ?? "");
}

export const get = async (path, signal) => (await ask("GET", path, undefined, signal)).json();
export const post = async (path, body, signal) => (await ask("POST", path, body, signal)).json();
export const remove = async (path) => (await ask("DELETE", path)).json();

// Yields the events of an answer that is streamed, as they come.
export async function* events(path, body, signal) {
  const answer = await ask("POST", path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value;
    const parts = waiting.split("\n\n");
    waiting = parts.pop();
    for (const part of parts) {
      const text = part.replace(/^data: /, "");
      if (text === "[DONE]") return;
      yield JSON.parse(text);
    }
  }
}

// Sends a file; `tell` is given the bytes sent so far. Files go as they are, piece by piece.
export function upload(file, tell, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => tell(event.loaded));
    request.addEventListener("load", () => {
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* it is no JSON */ }
      if (request.status === 401) dispatchEvent(new CustomEvent("session-over"));
      if (request.status === 201) resolve(told);
      else reject(new Refusal(told.error?.message ?? t("error.status", { status: request.status }), request.status, told.error?.code));
    });
    request.addEventListener("error", () => reject(new Refusal(t("error.gone"), 0, "gone")));
    request.addEventListener("abort", () => reject(new Refusal(t("data.upload_stopped"), 0, "stopped")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
