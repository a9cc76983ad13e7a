"""Settings are read strictly: a typing error is never a default."""

import os
from pathlib import Path

import pytest

from bursar.kernel.errors import SettingsError
from bursar.settings import OWN_FIELDS, SECRET_FIELDS, read_settings

SECRET = "a secret that is long enough for everybody"


def test_an_empty_environment_gives_the_defaults():
    settings = read_settings({})
    assert settings.data_dir == Path("data")
    assert (settings.host, settings.port) == ("127.0.0.1", 8484)
    assert (settings.sign_up, settings.payments) == ("invitation", "off")
    assert settings.let_sandbox_credits_spend_real_money is False


def test_an_empty_variable_counts_as_not_set():
    settings = read_settings({"BURSAR_PORT": "", "BURSAR_CATALOG": ""})
    assert (settings.port, settings.catalog) == (8484, None)


def test_variables_become_settings_and_the_command_line_wins():
    environment = {
        "BURSAR_PORT": "9000",
        "BURSAR_PUBLIC_URL": "https://bursar.example.com/",
        "BURSAR_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1",
        "BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY": "true",
        "PATH": "/bin",
        "NOT_OURS": "x",
    }
    settings = read_settings(environment, port=9001, host=None)
    assert settings.port == 9001
    assert settings.host == "127.0.0.1"
    assert settings.public_url == "https://bursar.example.com"
    assert settings.trusted_proxies == ("10.0.0.0/8", "127.0.0.1")
    assert settings.let_sandbox_credits_spend_real_money is True


@pytest.mark.parametrize(
    "variable", ["BURSAR_PROT", "BURSAR_", "BURSAR_port", "BURSAR_PORT_FILE", "BURSAR_CATALOG_FILE"]
)
def test_an_unknown_variable_of_ours_is_refused(variable: str):
    try:
        settings = read_settings({variable: "8484"})
    except SettingsError as error:
        refused = error
    else:
        pytest.fail(f"{variable} was taken: {settings}")
    assert variable in refused.sentence
    assert refused.remedy


def test_a_near_miss_is_told_what_was_meant():
    with pytest.raises(SettingsError) as refused:
        read_settings({"BURSAR_DATABSE_URL": "postgresql://x/y"})
    assert refused.value.remedy == "Did you mean BURSAR_DATABASE_URL?"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BURSAR_PORT", "many"),
        ("BURSAR_PORT", "-1"),
        ("BURSAR_PORT", "65536"),
        ("BURSAR_PORT", "80.5"),
        ("BURSAR_SIGN_UP", "OPEN"),
        ("BURSAR_PAYMENTS", "yes"),
        ("BURSAR_LOG_LEVEL", "loud"),
        ("BURSAR_SMTP_PORT", "0"),
        ("BURSAR_SMTP_SECURITY", "ssl"),
        ("BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY", "maybe"),
        ("BURSAR_PUBLIC_URL", "ftp://x"),
        ("BURSAR_PUBLIC_URL", "https://"),
        ("BURSAR_PUBLIC_URL", "https://example.com/bursar"),
        ("BURSAR_TRUSTED_PROXIES", "proxy.example.com"),
    ],
)
def test_a_value_that_is_not_usable_is_refused_and_its_variable_named(variable: str, value: str):
    with pytest.raises(SettingsError) as refused:
        read_settings({variable: value})
    assert refused.value.sentence.startswith(f"{variable} is not usable")


@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_a_secret_may_come_from_a_file(name: str, tmp_path: Path):
    path = tmp_path / "mounted"
    path.write_text(f"{SECRET}\n")
    variable = f"BURSAR_{name.upper()}"
    settings = read_settings({f"{variable}_FILE": str(path)})
    assert getattr(settings, name) == SECRET
    with pytest.raises(SettingsError) as refused:
        read_settings({f"{variable}_FILE": str(path), variable: SECRET})
    assert refused.value.sentence == f"{variable} and {variable}_FILE are both set."
    for bad in (tmp_path / "none", tmp_path):
        with pytest.raises(SettingsError) as refused:
            read_settings({f"{variable}_FILE": str(bad)})
        assert str(bad) in refused.value.sentence
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError):
        read_settings({f"{variable}_FILE": str(path)})


def test_a_secret_is_never_in_the_text_of_the_settings_or_of_a_refusal():
    environment = {
        "BURSAR_SECRET": SECRET,
        "BURSAR_SMTP_PASSWORD": SECRET,
        "BURSAR_DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
        "OPENAI_API_KEY": SECRET,
    }
    assert SECRET not in repr(read_settings(environment))
    with pytest.raises(SettingsError) as refused:
        read_settings({**environment, "BURSAR_PORT": "x"})
    assert SECRET not in f"{refused.value!r} {refused.value.sentence} {refused.value.remedy}"


def test_credentials_are_found_by_the_name_of_their_variable():
    settings = read_settings({"ACME_API_KEY": "abc", "EMPTY": "", "OPENAI_API_KEY": "def"})
    assert settings.credential("ACME_API_KEY") == "abc"
    assert settings.credential("EMPTY") is None
    assert settings.credential("NONE") is None
    assert settings.provider_variables == {"OPENAI_API_KEY": "def"}


def test_every_setting_has_a_sentence():
    for name, field in OWN_FIELDS.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_reading_settings_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BURSAR_PORT", "9999")
    before = dict(os.environ)
    assert read_settings().port == 9999
    assert dict(os.environ) == before
