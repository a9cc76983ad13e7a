"""`docs/settings.md` is the table in the code, written out: `python tests/test_settings_docs.py` renews it."""

from pathlib import Path

from bursar.settings import OWN_FIELDS, SECRET_FIELDS

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = """# Settings

Every setting is an environment variable. A variable that starts with `BURSAR_` and is none of these is refused at the start. For
a secret, `BURSAR_X_FILE` may name a file that holds the value instead. Options of the command line (`--port`, `--host`,
`--data-dir`) win over the environment. `bursar demo` sets `BURSAR_PAYMENTS=sandbox` and `BURSAR_SIGN_UP=open` by itself.

Providers are switched on by their own variables, such as `OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `OPENROUTER_API_KEY`,
`GROQ_API_KEY`, `MISTRAL_API_KEY`, `DEEPSEEK_API_KEY` or `OLLAMA_HOST`; `BURSAR_CATALOG` adds others.

| setting | default | what it says |
|---|---|---|
"""


def page() -> str:
    rows = []
    for name, field in OWN_FIELDS.items():
        default = (
            "unset"
            if field.default in (None, ())
            else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        )
        secret = " A secret." if name in SECRET_FIELDS else ""
        rows.append(f"| `BURSAR_{name.upper()}` | {default} | {field.description}{secret} |")
    return HEAD + "\n".join(rows) + "\n"


def test_the_page_of_settings_says_what_the_code_reads():
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
