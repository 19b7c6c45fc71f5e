"""Changing the text of a policy: one signer or threshold changes, everything else stays byte for byte."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest import ConfigError
from wcp_attest.trust.policy_text import add_signer, quoted, remove_signer, set_threshold

POLICY = """\
# Whom we trust. Ask security@acme.example before you change it.
version = 1

[accept]          # strict on purpose
max_age = "400d"

[[namespace]]
name = "org.acme"
threshold = 1     # two from May on
  [[namespace.signer]]  # Alice
  key = "alice.pub"
  # Bob has left

  [[namespace.signer]]
  [namespace.signer.sigstore]
  issuer = "https://accounts.example.com"
  identity = "carol@acme.example"

# the partners
[[namespace]]
name = "x.partner"
signer = [{ key = "partner.pub" }]

[sigstore]
require_timestamp = false  # [[namespace]]
"""
KEY = {"key": 'new "key".pub'}
KEYLESS = {"sigstore": {"issuer": "https://gitlab.com", "repository": "https://gitlab.com/acme/größe"}}


def test_adds_a_signer_behind_the_others_and_keeps_every_line() -> None:
    for signer in (KEY, KEYLESS, {"hmac": {"env": "WCP_ATTEST_HMAC_KEY"}}):
        changed = add_signer(POLICY, 0, signer)
        assert tomllib.loads(changed)["namespace"][0]["signer"][2] == signer
        added = [line for line in changed.splitlines() if line not in POLICY.splitlines()]
        assert len(added) == 1
        lines = changed.splitlines()
        at = lines.index(added[0])
        assert lines[: at - 1] + lines[at + 1 :] == POLICY.splitlines()
        assert lines[at - 2] == '  identity = "carol@acme.example"'


def test_removes_a_signer_and_keeps_the_comments_of_the_others() -> None:
    without_alice = remove_signer(POLICY, 0, 0)
    assert [*tomllib.loads(without_alice)["namespace"][0]["signer"][0]] == ["sigstore"]
    assert "alice.pub" not in without_alice
    assert "# Bob has left" in without_alice
    without_carol = remove_signer(POLICY, 0, 1)
    assert tomllib.loads(without_carol)["namespace"][0]["signer"] == [{"key": "alice.pub"}]
    assert "# the partners\n[[namespace]]" in without_carol


def test_what_was_added_and_removed_again_leaves_the_text_as_it_was() -> None:
    assert remove_signer(add_signer(POLICY, 0, KEY), 0, 2) == POLICY
    crlf = POLICY.replace("\n", "\r\n")
    assert remove_signer(add_signer(crlf, 0, KEY), 0, 2) == crlf
    assert "\n" not in add_signer(crlf, 0, KEY).replace("\r\n", "")


def test_changes_the_threshold_of_the_one_namespace() -> None:
    changed = set_threshold(POLICY, 0, 2)
    assert changed == POLICY.replace("threshold = 1     #", "threshold = 2     #")
    assert tomllib.loads(set_threshold(POLICY, 1, 7))["namespace"][1]["threshold"] == 7
    assert set_threshold(POLICY, 1, 1) == POLICY


@pytest.mark.parametrize(
    "text",
    [
        'version = 1\nnamespace = [{ name = "org.acme", signer = [{ key = "a" }] }]\n',
        'version = 1\n[[namespace]]\nname = "org.acme"\nsigner = [{ key = "a" }]\n',
        'version = 1\nx = """\n[[namespace]]\n"""\n[[namespace]]\nname = "org.acme"\nsigner = [{ key = "a" }]\n',
        'version = 1\n[[namespace]]\nname = "org.acme"\n',
    ],
)
def test_refuses_text_that_cannot_be_changed_safely(text: str) -> None:
    with pytest.raises(ConfigError, match="edit it by hand"):
        add_signer(text, 0, KEY)
    with pytest.raises(ConfigError, match="edit it by hand"):
        remove_signer(text, 0, 0)


def test_headers_inside_texts_are_not_taken_for_headers() -> None:
    text = POLICY.replace('identity = "carol@acme.example"', 'identity = """\n[[namespace]]\n[bans]\n"""')
    try:
        changed = add_signer(text, 0, KEY)
    except ConfigError:
        return
    assert len(tomllib.loads(changed)["namespace"][0]["signer"]) == 3


@given(st.text(max_size=60), st.integers(0, 3), st.integers(0, 3))
def test_a_change_is_exact_or_refused(noise: str, namespace: int, signer: int) -> None:
    for text in (POLICY + noise, noise + POLICY):
        try:
            before = tomllib.loads(text)
            changed = remove_signer(text, namespace, signer)
        except (ConfigError, tomllib.TOMLDecodeError):
            continue
        del before["namespace"][namespace]["signer"][signer]
        assert tomllib.loads(changed) == before


@given(st.text())
def test_quoted_texts_are_what_they_were(text: str) -> None:
    try:
        assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}
    except ConfigError:
        assert not text.isprintable()
