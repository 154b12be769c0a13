"""Whether an image in a registry is our own release: proven by this machine's key, on GitHub by gh."""

import json
import tempfile
from pathlib import Path

import pytest
from oci import CRANE, archive, attest, crane, serving

from loop.core import paths
from loop.core.signing import signed
from loop.packaging import attestation, layout
from loop.packaging.registry import Registry

KEY = "0123456789ab"
REPOSITORY = "https://github.com/acme/churn"
SIGNER = f"{REPOSITORY}/.github/workflows/release-model.yml@refs/heads/main"


@pytest.fixture(scope="module")
def host():
    with serving() as host:
        yield host


@pytest.fixture
def pushed(host, tmp_path, cache):
    """The registry and digest of an image that somebody has pushed."""
    digest = layout.write(archive(tmp_path / "image.tar", tmp_path.name.encode()), tmp_path / "image")
    registry = Registry(f"{host}/team/{tmp_path.name.rstrip('_')}", CRANE)
    registry.push(tmp_path / "image", KEY)
    return registry, digest


def said(registry, digest, key=KEY, kind=attestation.PREDICATE):
    predicate = {"buildDefinition": {"internalParameters": {"releaseKey": key}}}
    return {**attestation.statement(registry.name, digest, predicate), "predicateType": kind}


def test_what_this_machine_has_attested_counts(pushed):
    """The attestation counts for its own release key, and not for another one."""
    registry, digest = pushed
    assert "has not attested" in attestation.doubt(registry, digest, KEY)
    attest(f"{registry.name}@{digest}", KEY)
    assert attestation.doubt(registry, digest, KEY) == ""
    assert "for the key ba9876543210" in attestation.doubt(registry, digest, "ba9876543210")


def moved(registry, digest):
    """Store the attestation of another image of ours beside this one."""
    attestation.keep(registry, digest, signed(json.dumps(said(registry, f"sha256:{'0' * 64}")).encode()))


def strange(registry, digest):
    """Attest the image, then delete the key, as if another machine had signed."""
    attest(f"{registry.name}@{digest}", KEY)
    (paths.cache() / "keys/release.key").unlink()


def unsigned(registry, digest):
    envelope = signed(json.dumps(said(registry, digest)).encode())
    attestation.keep(registry, digest, {**envelope, "signatures": []})


def of_kind(registry, digest):
    """Sign a statement about this image that is not a provenance."""
    content = said(registry, digest, kind="https://cyclonedx.org/bom")
    attestation.keep(registry, digest, signed(json.dumps(content).encode()))


def huge(registry, digest):
    attestation.keep(registry, digest, {"payload": "A" * attestation.MOST})


def deep(registry, digest):
    """Push JSON that is nested too deeply to be parsed."""
    with tempfile.TemporaryDirectory() as scratch:
        layout.single(Path(scratch) / "image", attestation.ENVELOPE, b"[" * 100_000)
        registry.push(Path(scratch) / "image", f"{digest.replace(':', '-')}.att")


def image(registry, digest):
    """Give the image itself the tag of its attestation."""
    crane("tag", f"{registry.name}@{digest}", f"{digest.replace(':', '-')}.att")


@pytest.mark.parametrize(
    "forge", [moved, strange, unsigned, of_kind, huge, deep, image], ids=lambda forge: forge.__name__
)
def test_what_else_lies_beside_an_image_does_not(pushed, forge):
    """Anyone who can push may have put it there. The image is not trusted, but no exception is raised."""
    registry, digest = pushed
    forge(registry, digest)
    assert attestation.doubt(registry, digest, KEY)


# A fake gh: it checks the file and the options, then prints the answer, or an error with exit code 1.
GH = """\
#!/bin/sh
[ "$1 $2" = "attestation verify" ] || exit 9
[ "$(sha256sum "$3" | cut -d ' ' -f 1)" = "{hex}" ] || exit 9
shift 3
[ "$*" = "{options}" ] || {{ echo "called with $*" >&2; exit 9; }}
[ -z "{refused}" ] || {{ echo "Error: verifying with issuer \\"sigstore.dev\\"" >&2; exit 1; }}
cat {answer}
"""
OPTIONS = (
    f"--repo acme/churn --cert-identity {SIGNER} "
    "--cert-oidc-issuer https://token.actions.githubusercontent.com "
    "--source-ref refs/heads/main --predicate-type https://slsa.dev/provenance/v1 --format json"
)


def answered(statement, **certificate):
    """Return one verified attestation as gh prints it."""
    signed_by = {
        "certificateIssuer": "CN=sigstore-intermediate,O=sigstore.dev",
        "subjectAlternativeName": SIGNER,
        "issuer": "https://token.actions.githubusercontent.com",
        "githubWorkflowRef": "refs/heads/main",
        "buildSignerURI": SIGNER,
        "sourceRepositoryURI": REPOSITORY,
        "sourceRepositoryRef": "refs/heads/main",
        "buildConfigURI": f"{REPOSITORY}/.github/workflows/release.yml@refs/heads/main",
        **certificate,
    }
    return {
        "attestation": {"bundle": {}, "bundle_url": "", "initiator": ""},
        "verificationResult": {
            "mediaType": "application/vnd.dev.sigstore.verificationresult+json;version=0.1",
            "signature": {"certificate": signed_by},
            "verifiedTimestamps": [],
            "statement": statement,
        },
    }


def by_action(registry, digest):
    """Return the provenance that actions/attest-build-provenance writes, which knows no release key."""
    predicate = {"buildDefinition": {"internalParameters": {"github": {"event_name": "push"}}}}
    return answered(attestation.statement(registry.name, digest, predicate))


OTHER = f"{REPOSITORY}/.github/workflows/evil.yml@refs/heads/main"
ON_GITHUB = {
    "ours": (lambda *it: [answered(said(*it))], ""),
    "ours among others": (
        lambda *it: [answered(said(*it), sourceRepositoryRef="refs/heads/x"), answered(said(*it))],
        "",
    ),
    "ours after GitHub's own": (lambda *it: [by_action(*it), answered(said(*it))], ""),
    "GitHub's own": (lambda *it: [by_action(*it)], "has not attested"),
    "another key": (lambda *it: [answered(said(*it, key="ba9876543210"))], "has not attested"),
    "another image": (lambda it, _: [answered(said(it, f"sha256:{'0' * 64}"))], "has not attested"),
    "another workflow": (
        lambda *it: [answered(said(*it), subjectAlternativeName=OTHER)],
        "has not attested",
    ),
    "a run on another branch": (
        lambda *it: [answered(said(*it), sourceRepositoryRef="refs/heads/x")],
        "has not attested",
    ),
    "another repository": (
        lambda *it: [answered(said(*it), sourceRepositoryURI="https://github.com/evil/churn")],
        "has not attested",
    ),
    "no provenance": (
        lambda *it: [answered(said(*it, kind="https://cyclonedx.org/bom"))],
        "has not attested",
    ),
    "nothing": (lambda *_: [], "has not attested"),
    "no list": (lambda *_: {"message": "Not Found"}, "cannot be read"),
    "refused": (None, "Error: verifying with issuer"),
    "no gh": (None, "cannot be read: gh does not run"),
    "no program": (None, "cannot be read: gh does not run"),
}


@pytest.mark.parametrize("what", ON_GITHUB)
def test_on_github_the_signer_is_the_release_of_main(pushed, tmp_path, monkeypatch, what):
    """An image counts if gh has verified the signature, the signing workflow file, and the run's branch."""
    registry, digest = pushed
    answer, expected = ON_GITHUB[what]
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "answer").write_text(json.dumps(answer(registry, digest) if answer else []))
    values = {"hex": digest[7:], "options": OPTIONS, "answer": tmp_path / "answer"}
    if what != "no gh":
        (programs / "gh").write_text(GH.format(**values, refused="" if answer else "yes"))
        (programs / "gh").chmod(0o644 if what == "no program" else 0o755)
    given = {"ACTIONS": "true", "SERVER_URL": "https://github.com", "REPOSITORY": "acme/churn"}
    for name, value in given.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    monkeypatch.delenv("ACT", raising=False)  # CI under act runs this, too
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    attest(f"{registry.name}@{digest}", KEY)  # this machine's key does not count on GitHub
    found = attestation.doubt(registry, digest, KEY)
    assert found == "" if not expected else expected in found
    monkeypatch.setenv("ACT", "true")
    assert attestation.doubt(registry, digest, KEY) == ""
