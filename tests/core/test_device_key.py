"""Keys that do not leave a token or an agent: a real SoftHSM, a real ssh-agent, and what is said without them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wcp_attest import ConfigError, TrustedKey
from wcp_attest.base.errors import SigningError
from wcp_attest.cli import main
from wcp_attest.net import ssh_agent
from wcp_attest.package.signature_file import parse_line
from wcp_attest.signing.device_key import DeviceSigner
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
MODULE = next((path for path in MODULES if Path(path).exists()), "")
needs_softhsm = pytest.mark.skipif(
    not MODULE or shutil.which("softhsm2-util") is None, reason="LOUD SKIP: softhsm2 is not installed"
)
needs_agent = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="LOUD SKIP: ssh-agent is not installed")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A token with one P-256 key (id 2) and one P-384 key (id 3), and its URI without the id."""
    pkcs11 = pytest.importorskip("pkcs11")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "release", "--so-pin", "12345678", "--pin", "1234"]
    subprocess.run(command, check=True, capture_output=True)
    module: Any = pkcs11.lib(MODULE)
    with module.get_token(token_label="release").open(rw=True, user_pin="1234") as session:
        for number, curve in ((2, "secp256r1"), (3, "secp384r1")):
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters(curve)},
                local=True,
            )
            parameters.generate_keypair(id=bytes([number]), label=f"key{number}", store=True)
    yield f"token=release?module-path={MODULE}"
    if before is None:
        del os.environ["SOFTHSM2_CONF"]


@needs_softhsm
def test_a_token_signs_what_its_public_key_verifies(token: str) -> None:
    asked: list[str] = []

    def pin() -> bytes:
        asked.append("pin")
        return b"1234"

    signer = DeviceSigner.open(f"pkcs11:id=%02;{token}", pin)
    line = parse_line(signer.sign(PAYLOAD))
    assert signer.check(line).key_id == signer.trusted.key_id
    assert signer.made(line)
    assert asked
    assert signer.trusted.verify(line).kind == "key"


@needs_softhsm
@pytest.mark.parametrize(
    ("uri", "pin", "said"),
    [
        ("pkcs11:id=%09;{}", b"1234", "could not find"),
        ("pkcs11:id=%03;{}", b"1234", "not supported; use ECDSA P-256"),
        ("pkcs11:id=%02;token=other?module-path={module}", b"1234", "No PKCS#11 token"),
        ("pkcs11:token=release?module-path={module}", b"1234", "needs the id"),
        ("pkcs11:object=key2;token=release?module-path={module}", b"1234", "not by `object`"),
        ("pkcs11:id=%02?pin-value=1234&module-path={module}", b"1234", "only `module-path`"),
        ("pkcs11:id=%02?module-path=/nonexistent.so", b"1234", "pkcs11: "),
        ("pkcs11:id=%02;id=%03;{}", b"1234", "stands in it twice"),
        ("pkcs11:id=%02?module-path={module}&module-path=/other.so", b"1234", "stands in it twice"),
    ],
)
def test_a_token_that_cannot_be_used_is_named(token: str, uri: str, pin: bytes | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        DeviceSigner.open(uri.format(token, module=MODULE), lambda: pin)
    assert "\n" not in str(caught.value)


@needs_softhsm
@pytest.mark.parametrize(("pin", "said"), [(b"9999", "Pin"), (None, "asks for a PIN")])
def test_a_token_with_a_wrong_or_no_pin_signs_nothing(token: str, pin: bytes | None, said: str) -> None:
    with pytest.raises((ConfigError, SigningError), match=said):
        DeviceSigner.open(f"pkcs11:id=%02;{token}", lambda: pin).sign(PAYLOAD)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real agent with one Ed25519 and one ECDSA key."""
    place = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if place.exists():
                break
            process.poll()
            threading.Event().wait(0.02)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        for kind in ("ed25519", "ecdsa"):
            path = tmp_path / kind
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
            subprocess.run(["ssh-add", "-q", path], check=True, capture_output=True)
        yield tmp_path
    finally:
        process.terminate()
        process.wait(10)


@needs_agent
def test_an_agent_signs_by_its_ed25519_key(agent: Path) -> None:
    public = agent / "ed25519.pub"
    listed = subprocess.run(["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True).stdout.split()
    expected = TrustedKey.from_file_bytes(public.read_bytes())
    for name in ("", str(public), listed[1]):
        signer = DeviceSigner.open(f"ssh-agent:{name}", lambda: None)
        assert signer.trusted == expected
        assert expected.verify(parse_line(signer.sign(PAYLOAD))).key_id == expected.key_id


@needs_agent
def test_an_agent_with_other_keys_says_which_are_missing(agent: Path) -> None:
    with pytest.raises(ConfigError, match="does not hold the key"):
        DeviceSigner.open(f"ssh-agent:{agent / 'ecdsa.pub'}", lambda: None)
    with pytest.raises(ConfigError, match="does not hold the key SHA256:"):
        DeviceSigner.open("ssh-agent:SHA256:AAAA", lambda: None)
    second = agent / "second"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", second], check=True)
    subprocess.run(["ssh-add", "-q", second], check=True, capture_output=True)
    with pytest.raises(ConfigError, match="several Ed25519 keys"):
        DeviceSigner.open("ssh-agent:", lambda: None)
    signer = DeviceSigner.open(f"ssh-agent:{second}.pub", lambda: None)
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
    with pytest.raises(SigningError, match="refused"):
        signer.sign(PAYLOAD)


def test_without_an_agent_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(ConfigError, match="SSH_AUTH_SOCK is not set"):
        DeviceSigner.open("ssh-agent:", lambda: None)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="cannot be asked"):
        DeviceSigner.open("ssh-agent:", lambda: None)


def answering(place: Path, answer: bytes) -> threading.Thread:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(place))
    server.listen(1)

    def serve() -> None:
        connection, _ = server.accept()
        with connection, server:
            connection.recv(65536)
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


HOSTILE_ANSWERS = {
    "nothing": b"",
    "cut short": b"\0\0\0\x10\x0c\0",
    "gigantic": b"\xff\xff\xff\xff\x0c",
    "of no size": b"\0\0\0\0",
    "a refusal": b"\0\0\0\x01\x05",
    "of another type": b"\0\0\0\x01\x63",
    "a count without keys": b"\0\0\0\x05\x0c\xff\xff\xff\xff",
    "no count": b"\0\0\0\x02\x0c\0",
    "a field beyond the end": b"\0\0\0\x0d\x0c\0\0\0\x01\0\0\xff\xff\0\0\0\0",
}


@pytest.mark.parametrize("name", HOSTILE_ANSWERS)
def test_hostile_answers_of_an_agent_are_one_clear_line(tmp_path: Path, name: str) -> None:
    place = tmp_path / "agent"
    thread = answering(place, HOSTILE_ANSWERS[name])
    with pytest.raises(ConfigError, match="the ssh-agent at"):
        ssh_agent.agent_keys(str(place))
    thread.join(5)
    place = tmp_path / "agent2"
    thread = answering(place, HOSTILE_ANSWERS[name])
    with pytest.raises(SigningError, match="the ssh-agent at"):
        ssh_agent.agent_signature(str(place), b"key", b"message")
    thread.join(5)


def test_a_socket_with_too_long_a_name_is_named_as_such() -> None:
    with pytest.raises(ConfigError, match="too long"):
        ssh_agent.agent_keys("/tmp/" + "x" * 200)


@needs_agent
def test_the_command_line_signs_by_an_agent(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (agent / "pkg").mkdir()
    (agent / "pkg/a.py").write_text("x = 1")
    ids = ("--worker-id", "org.acme.w", "--species-id", "wrk.a.b", "--worker-version", "1.0.0")
    assert main(["sign", str(agent / "pkg"), "--key", "ssh-agent:", *ids]) == 0
    trust = ("--worker-id", "org.acme.w", "--public-key", str(agent / "ed25519.pub"))
    assert main(["verify", str(agent / "pkg"), *trust]) == 0
    assert main(["sign", str(agent / "pkg"), "--key", "pkcs11:id=%02"]) == 2
    assert "PYKCS11LIB" in capsys.readouterr().err


def test_a_device_that_signs_something_else_is_noticed() -> None:
    signer = DeviceSigner(generate().trusted, lambda _: bytes(64))
    with pytest.raises(Exception, match="is not valid"):
        signer.check(parse_line(signer.sign(PAYLOAD)))


@pytest.mark.parametrize("uri", ["awskms:alias/x", "gcpkms:projects/x", "azurekms:vault/key", "hashivault:key"])
def test_a_cloud_without_its_library_names_the_extra(uri: str) -> None:
    library = {"awskms": "boto3", "gcpkms": "google.cloud.kms", "azurekms": "azure.identity", "hashivault": "hvac"}
    try:
        __import__(library[uri.partition(":")[0]])
    except ImportError:
        with pytest.raises(ConfigError, match=r"pip install 'wcp-attest\[kms\]'"):
            DeviceSigner.open(uri, lambda: None)
    else:
        pytest.skip("LOUD SKIP: the cloud's library is installed, and there is no cloud to ask here")


@pytest.mark.parametrize(
    ("uri", "said"), [("azurekms:vault", "the vault and the key"), ("awskms:", "needs the name"), ("gcpkms:", "needs")]
)
def test_names_that_name_no_key_are_refused(uri: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DeviceSigner.open(uri, lambda: None)
