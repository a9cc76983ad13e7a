"use strict";
// The page Chat: a conversation that lives in this tab, answered by the gateway for whoever is signed in.
(() => {
  const chat = document.getElementById("chat");
  const form = document.getElementById("chat-form");
  if (!form) return;

  const { base, memory, csrf } = chat.dataset;
  const log = document.getElementById("chat-log");
  const message = document.getElementById("message");
  const send = document.getElementById("chat-send");
  const stop = document.getElementById("chat-stop");
  const modelsMenu = document.getElementById("chat-models");
  const search = document.getElementById("chat-search");
  const total = document.getElementById("chat-total");
  const CONVERSATION = `bursar-chat:${memory}`;
  const LAST_MODEL = `bursar-chat-model:${memory}`;
  const RECEIPT_WAITS = [0, 150, 300, 600, 1200, 2400, 4800]; // milliseconds between asking for what an answer cost
  const FINISHES = { canceled: "stopped", length: "cut off by the token limit", content_filter: "stopped by a filter", error: "broke off" };

  // A turn: {question, model, text, thought, generation, receipt, error: {text, credits, signIn} | null, done}
  let turns = [];
  let running = null;
  let forgotten = false;

  const part = (turn, name) => turn.element.querySelector(`[data-part="${name}"]`);

  // What is remembered

  // On a phone the field takes the focus when it is touched only: it brings the keyboard with it.
  const focusMessage = () => matchMedia("(pointer: fine)").matches && message.focus();

  const read = (storage, name) => {
    try {
      return storage.getItem(name);
    } catch {
      return null;
    }
  };

  const write = (storage, name, value) => {
    try {
      storage.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  };

  const save = () => {
    if (forgotten) return;
    const kept = turns.map(({ element, waiting, ...turn }) => turn);
    const { system, max_tokens, temperature } = form.elements;
    const options = { system: system.value, max_tokens: max_tokens.value, temperature: temperature.value };
    if (!write(sessionStorage, CONVERSATION, JSON.stringify({ turns: kept, model: chosen().value, options }))) {
      announce("This conversation is too long for the browser to keep: it is gone when the page is left.");
    }
  };

  const restore = () => {
    let found = null;
    try {
      found = JSON.parse(read(sessionStorage, CONVERSATION));
    } catch {
      // Not ours, or cut off: as if there were none.
    }
    if (!("chosen" in chat.dataset)) choose(found?.model ?? read(localStorage, LAST_MODEL));
    if (!found || !Array.isArray(found.turns)) return;
    for (const [name, value] of Object.entries(found.options ?? {})) {
      if (form.elements[name] && !form.elements[name].value) form.elements[name].value = value;
    }
    for (const kept of found.turns) {
      const turn = { ...kept, done: true };
      turns.push(turn);
      show(turn);
      if (!turn.receipt && turn.generation) settle(turn);
    }
    scrollToEnd();
  };

  // The model

  const chosen = () => form.querySelector("input[name=model]:checked");

  const showChosen = () => {
    const [name, price] = chosen().closest("label").querySelectorAll("b");
    modelsMenu.querySelector("summary [data-part=name]").textContent = name.textContent;
    modelsMenu.querySelector("summary [data-part=price]").textContent = price.textContent;
  };

  const choose = (id) => {
    const input = [...form.querySelectorAll("input[name=model]")].find((each) => each.value === id);
    if (!input) return;
    input.checked = true;
    showChosen();
  };

  const filterModels = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    let found = 0;
    for (const label of form.querySelectorAll("#chat-choices label")) {
      const text = label.querySelector(".b-two").textContent.toLowerCase();
      label.hidden = !words.every((word) => text.includes(word));
      found += !label.hidden;
    }
    modelsMenu.querySelector(".b-pop").scrollTop = 0;
    document.getElementById("chat-none").hidden = found > 0;
    announce(`${found} ${found === 1 ? "model" : "models"}`);
  };

  const closeModels = () => {
    modelsMenu.open = false;
    focusMessage();
  };

  // What is shown

  const money = (nanos) => {
    const whole = String(nanos).padStart(10, "0");
    const units = Number(whole.slice(0, -9)).toLocaleString("en-US");
    const decimals = whole.slice(-9);
    if (nanos === 0) return "$0.00";
    return `$${units}.${nanos < 10_000 ? decimals.replace(/0+$/, "") : decimals.slice(0, 5)}`;
  };

  const showTotal = () => {
    const charged = turns.filter((turn) => turn.receipt);
    const nanos = charged.reduce((sum, turn) => sum + turn.receipt.cost_nanos, 0);
    const tokens = charged.reduce((sum, turn) => sum + turn.receipt.tokens_in + turn.receipt.tokens_out, 0);
    total.hidden = charged.length === 0;
    total.textContent = `This chat: ${tokens.toLocaleString("en-US")} tokens · ${money(nanos)}`;
  };

  const show = (turn) => {
    if (!turn.element) {
      turn.element = document.getElementById("chat-turn").content.cloneNode(true).firstElementChild;
      log.append(turn.element);
    }
    document.getElementById("chat-hello").hidden = true;
    part(turn, "question").textContent = turn.question;
    part(turn, "model").textContent = turn.receipt?.model ?? turn.model;
    part(turn, "waiting").hidden = turn.done || turn.text !== "" || turn.thought !== "";
    part(turn, "thought").hidden = turn.thought === "";
    part(turn, "thought").querySelector("div").textContent = turn.thought;
    renderProse(part(turn, "answer"), turn.text);
    showError(turn);
    showFacts(turn);
    turn.element.setAttribute("aria-busy", String(!turn.done));
  };

  const showError = (turn) => {
    part(turn, "error").hidden = !turn.error;
    if (!turn.error) return;
    part(turn, "error-text").textContent = turn.error.text;
    part(turn, "credits").hidden = !turn.error.credits;
    part(turn, "sign-in").hidden = !turn.error.signIn;
    part(turn, "retry").hidden = !turn.done || turn !== turns.at(-1);
  };

  const showFacts = (turn) => {
    const { receipt } = turn;
    part(turn, "facts").hidden = !receipt;
    if (!receipt) return;
    part(turn, "finish").textContent = receipt.finish === "stop" ? "" : (FINISHES[receipt.finish] ?? receipt.finish);
    part(turn, "provider").textContent = receipt.provider ?? "";
    part(turn, "tokens").textContent = `${receipt.tokens_in.toLocaleString("en-US")} → ${receipt.tokens_out.toLocaleString("en-US")} tokens`;
    part(turn, "speed").textContent = receipt.tokens_per_second == null ? "" : `${receipt.tokens_per_second.toLocaleString("en-US")} tok/s`;
    part(turn, "cost").textContent = receipt.cost;
    part(turn, "cost").title = receipt.cost_exact;
    part(turn, "link").href = receipt.url;
  };

  const isAtEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
  const scrollToEnd = () => scrollTo({ top: document.documentElement.scrollHeight });

  // Follows the end of the conversation for whoever is looking at it.
  const update = (turn) => {
    const follow = isAtEnd();
    show(turn);
    if (follow) scrollToEnd();
  };

  const updateSoon = (turn) => {
    turn.waiting ??= requestAnimationFrame(() => {
      turn.waiting = null;
      if (turns.includes(turn)) update(turn);
    });
  };

  const showRunning = (is) => {
    send.hidden = is;
    stop.hidden = !is;
  };

  // Asking

  const body = (turn) => {
    const { system, max_tokens, temperature } = form.elements;
    const messages = system.value.trim() ? [{ role: "system", content: system.value.trim() }] : [];
    for (const earlier of turns) {
      if (earlier === turn) break;
      if (earlier.text) messages.push({ role: "user", content: earlier.question }, { role: "assistant", content: earlier.text });
    }
    messages.push({ role: "user", content: turn.question });
    const fields = { model: turn.model, stream: true, messages };
    if (max_tokens.value.trim()) fields.max_tokens = Number(max_tokens.value);
    if (temperature.value.trim()) fields.temperature = Number(temperature.value);
    return JSON.stringify(fields);
  };

  const refusal = (error) => {
    const credits = error.code === 402;
    const hint = error.metadata?.remedy_hint ?? "";
    const text = credits && error.message.endsWith(hint) ? error.message.slice(0, error.message.length - hint.length).trim() : error.message;
    return { text, credits, signIn: error.code === 401 };
  };

  const take = (turn, chunk) => {
    if (chunk.error) turn.error = refusal(chunk.error);
    const delta = chunk.choices?.[0]?.delta ?? {};
    turn.text += typeof delta.content === "string" ? delta.content : "";
    turn.thought += typeof delta.reasoning === "string" ? delta.reasoning : "";
  };

  const relay = async (turn, stream) => {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (event === "data: [DONE]") return true;
        if (event.startsWith("data: ")) take(turn, JSON.parse(event.slice(6)));
      }
      updateSoon(turn);
    }
    return false;
  };

  const answer = async (turn, signal) => {
    const response = await fetch(`${base}/chat/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: body(turn),
      signal,
    });
    if (!response.ok) {
      turn.error = refusal((await response.json()).error);
      return;
    }
    turn.generation = response.headers.get("X-Generation-Id");
    save();
    if (!(await relay(turn, response.body)) && !turn.error) turn.error = { text: "The connection broke off." };
  };

  const ask = async (question) => {
    const turn = { question, model: chosen().value, text: "", thought: "", generation: null, receipt: null, error: null, done: false };
    turns.at(-1)?.element.querySelector("[data-part=retry]").setAttribute("hidden", "");
    turns.push(turn);
    write(localStorage, LAST_MODEL, turn.model);
    running = new AbortController();
    show(turn);
    showRunning(true);
    save();
    scrollToEnd();
    try {
      await answer(turn, running.signal);
    } catch (error) {
      if (error.name !== "AbortError") turn.error = { text: "The connection to Bursar broke off." };
      else if (!turn.text && !turn.thought) turn.error = { text: "Stopped before the answer began." };
    }
    turn.done = true;
    running = null;
    if (turn.waiting) cancelAnimationFrame(turn.waiting);
    turn.waiting = null;
    showRunning(false);
    if (!turns.includes(turn)) return;
    update(turn);
    save();
    announce(turn.error ? turn.error.text : "The answer is complete.");
    focusMessage();
    if (turn.generation) await settle(turn);
  };

  // What it cost: it is charged before the end of the answer arrives; of one that was stopped, a moment later.
  const settle = async (turn) => {
    for (const wait of RECEIPT_WAITS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      const response = await fetch(`${base}/chat/answers/${turn.generation}`).catch(() => null);
      if (response?.status === 200) {
        turn.receipt = await response.json();
        if (!turns.includes(turn)) return;
        update(turn);
        showTotal();
        save();
        return;
      }
      if (response && response.status !== 204) return;
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const question = message.value.trim();
    if (!question || running) return;
    message.value = "";
    ask(question);
  });

  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (message.value.trim() && !running) form.requestSubmit();
  });

  // Without this file the server says what is wrong with an option, and nothing closed may keep the form from being sent.
  form.elements.max_tokens.pattern = "[1-9][0-9]{0,6}";
  form.elements.max_tokens.title = "A whole number, like 1000";
  form.elements.temperature.pattern = "[01](\\.[0-9]{1,4})?|2(\\.0{1,4})?";
  form.elements.temperature.title = "A number from 0 to 2, like 0.7";
  form.addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);

  // A page that is left in the middle of an answer keeps what came; one that is left by signing out keeps nothing.
  addEventListener("pagehide", () => running && save());
  document.addEventListener("submit", (event) => {
    if (event.target.getAttribute("action") === "/sign-out") forgotten = true;
  });

  stop.addEventListener("click", () => running?.abort());

  log.addEventListener("click", (event) => {
    if (!event.target.closest("[data-part=retry]") || running) return;
    const turn = turns.pop();
    turn.element.remove();
    ask(turn.question);
  });

  document.getElementById("chat-new").addEventListener("click", () => {
    running?.abort();
    turns = [];
    log.replaceChildren();
    document.getElementById("chat-hello").hidden = false;
    showTotal();
    save();
    announce("A new chat");
    message.focus();
  });

  modelsMenu.addEventListener("toggle", () => {
    if (!modelsMenu.open) return;
    search.value = "";
    filterModels();
    search.focus();
    chosen().closest("label").scrollIntoView({ block: "nearest" });
  });

  search.addEventListener("input", filterModels);

  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    const first = form.querySelector("#chat-choices label:not([hidden]) input");
    if (!first) return;
    if (event.key === "ArrowDown") {
      (chosen().closest("label").hidden ? first : chosen()).focus();
      return;
    }
    first.checked = true;
    showChosen();
    save();
    closeModels();
  });

  form.addEventListener("change", (event) => {
    if (event.target.name === "model") showChosen();
    save();
  });

  // A choice by pointer or Enter closes the list; the arrow keys move on in it.
  document.getElementById("chat-choices").addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest("label")) setTimeout(closeModels);
  });

  document.getElementById("chat-choices").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    closeModels();
  });

  restore();
  showTotal();
})();
