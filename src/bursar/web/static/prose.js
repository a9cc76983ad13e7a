"use strict";
// Markdown of a model as elements. marked only reads it; everything shown is made here, node by node, with text as text:
// no HTML of a model is ever parsed as HTML, its images are not loaded, and its links lead to http(s) and mail only.

const renderProse = (() => {
  const LINKS = new Set(["http:", "https:", "mailto:"]);
  const BLOCKS = { blockquote: "blockquote", paragraph: "p", hr: "hr" };
  const INLINES = { strong: "strong", em: "em", del: "del" };

  const append = (parent, tokens, state) => {
    for (const token of tokens ?? []) parent.append(...nodes(token, state));
    return parent;
  };

  // "&amp;" is written for "&": one entity at a time, so that no markup is ever decoded.
  const plain = (text) =>
    text.replace(/&(#\d{1,7}|#x[\da-f]{1,6}|[a-z]\w{1,30});/gi, (entity) =>
      new DOMParser().parseFromString(entity, "text/html").documentElement.textContent);

  const link = (token, state) => {
    const element = make("a", "b-link");
    try {
      const url = new URL(token.href);
      if (!LINKS.has(url.protocol)) throw new TypeError("not a link to follow");
      element.href = url.href;
      element.target = "_blank";
      element.rel = "noopener noreferrer nofollow";
    } catch {
      return [append(make("span"), token.tokens, state)];
    }
    if (token.type === "image") element.textContent = plain(token.text || "Image");
    else append(element, token.tokens, state);
    return [element];
  };

  const code = (token) => {
    const block = document.getElementById("chat-code").content.cloneNode(true);
    block.querySelector("code").textContent = token.text;
    block.querySelector("pre").setAttribute("aria-label", `Code${token.lang ? ` in ${token.lang}` : ""}`);
    return [block.firstElementChild];
  };

  const list = (token, state) => {
    const element = make(token.ordered ? "ol" : "ul");
    if (token.ordered && token.start !== 1) element.start = token.start;
    for (const item of token.items) {
      const entry = make("li");
      if (item.task) entry.append(item.checked ? "☑ " : "☐ ");
      element.append(append(entry, item.tokens.filter((part) => part.type !== "checkbox"), state));
    }
    return [element];
  };

  const table = (token, state) => {
    const box = make("div", "b-scroll");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Table");
    const element = make("table");
    const row = (cells, tag) => {
      const line = make("tr");
      for (const cell of cells) {
        const place = append(make(tag, cell.align ? `align-${cell.align}` : ""), cell.tokens, state);
        if (tag === "th") place.scope = "col";
        line.append(place);
      }
      return line;
    };
    const head = make("thead");
    head.append(row(token.header, "th"));
    const body = make("tbody");
    for (const cells of token.rows) body.append(row(cells, "td"));
    element.append(head, body);
    box.append(element);
    return [box];
  };

  const nodes = (token, state) => {
    switch (token.type) {
      case "space":
      case "def":
        return [];
      case "br":
        return [make("br")];
      case "code":
        return code(token);
      case "codespan":
        return [make("code", "", token.text)];
      case "heading": {
        // The page's own headings come before, and no level is left out.
        state.level = Math.min(token.depth + 2, state.level + 1, 6);
        return [append(make(`h${state.level}`), token.tokens, state)];
      }
      case "image":
      case "link":
        return link(token, state);
      case "list":
        return list(token, state);
      case "table":
        return table(token, state);
      case "html":
        return [token.raw];
      case "text":
      case "escape":
        if (token.tokens) return [append(make("span"), token.tokens, state)];
        return [plain(token.text)];
    }
    const tag = BLOCKS[token.type] ?? INLINES[token.type];
    return tag ? [append(make(tag), token.tokens, state)] : [token.raw];
  };

  // A stream is rendered again with every piece: blocks that have not changed keep their nodes (and what is selected in them).
  return (place, text) => {
    const before = place.blocks ?? [];
    const state = { level: 2 };
    const blocks = [];
    let same = true;
    for (const token of marked.lexer(text)) {
      const old = before[blocks.length];
      same = same && old !== undefined && old.raw === token.raw;
      if (same) {
        state.level = old.level;
        blocks.push(old);
        continue;
      }
      const parts = nodes(token, state).map((node) => (typeof node === "string" ? document.createTextNode(node) : node));
      blocks.push({ raw: token.raw, parts, level: state.level });
    }
    const kept = blocks.findIndex((block, index) => block !== before[index]);
    if (kept < 0 && blocks.length === before.length) return;
    const from = kept < 0 ? blocks.length : kept;
    for (const block of before.slice(from)) for (const node of block.parts) node.remove();
    for (const block of blocks.slice(from)) place.append(...block.parts);
    place.blocks = blocks;
  };
})();
