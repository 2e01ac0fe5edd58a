"""The chain of hashes: every kind of tampering is found, at its place."""

import json

import pytest
from gateway_audit_log.chaining import Keys, UnusableKey, hash_of, keys_of, read_entry, sealed
from gateway_audit_log.journal import Journal
from gateway_audit_log.reading import files_of
from gateway_audit_log.verifying import verify

PLAIN = Keys(None, b"d")
KEYED = Keys(b"k" * 32, b"d")


def written(path, count=10, keys=PLAIN):
    log = Journal(path, keys, max_bytes=1 << 30, max_age=None, kept=None)
    log.append([{"type": "call", "name": f"tool{number}"} for number in range(count)])
    log.close()
    return path.read_bytes().splitlines(keepends=True)


def forged(line, keys, **changes):
    """The line with other members and a hash that fits."""
    members = {**json.loads(line), **changes}
    prev, _ = members.pop("prev"), members.pop("hash")
    return sealed(json.dumps(members, separators=(",", ":")).encode(), prev, keys.chain)[0] + b"\n"


def changed(lines):
    lines[4] = lines[4].replace(b"tool4", b"tool9")


def removed(lines):
    del lines[4]


def several_removed(lines):
    del lines[4:7]


def moved(lines):
    lines[4], lines[5] = lines[5], lines[4]


def repeated(lines):
    lines.insert(5, lines[4])


def added(lines):
    lines.insert(5, forged(lines[4], PLAIN, name="mine"))


def replaced(lines):
    lines[4] = forged(lines[4], PLAIN, name="mine")


def garbled(lines):
    lines[4] = b"#" * 20 + b"\n"


def shortened(lines):
    lines[4] = lines[4][:50]


def first_removed_and_renumbered(lines):
    del lines[0]
    lines[0] = forged(lines[0], PLAIN, seq=1)


TAMPERING = {
    changed: "entry 5 was changed",
    removed: "entry 5 is missing before entry 6",
    several_removed: "entries 5 to 7 are missing before entry 8",
    moved: "entry 5 stands behind entry 6",
    repeated: "entry 5 stands behind entry 5",
    added: "entry 5 stands behind entry 5",
    replaced: "entry 6 does not follow from entry 5: that one was replaced",
    garbled: "is no entry, and the log does not say why",
    shortened: "is no entry",
    first_removed_and_renumbered: "the first entry refers to one before it",
}


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
@pytest.mark.parametrize("keys", [PLAIN, KEYED], ids=["plain", "keyed"])
def test_tampering_is_found_at_its_place(tmp_path, tamper, keys):
    path = tmp_path / "audit.jsonl"
    lines = written(path, keys=keys)
    assert verify([path], keys).count == 0
    tamper(lines)
    path.write_bytes(b"".join(lines))
    report = verify([path], keys)
    assert any(TAMPERING[tamper] in finding for finding in report.findings), report.findings
    assert report.findings[0].startswith(f"{path}:")


def test_one_change_is_one_finding(tmp_path):
    path = tmp_path / "audit.jsonl"
    for tamper in (changed, replaced, removed):
        path.unlink(missing_ok=True)
        lines = written(path)
        tamper(lines)
        path.write_bytes(b"".join(lines))
        assert verify([path], PLAIN).count == 1, tamper


def test_who_has_no_key_cannot_make_a_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    written(path, keys=KEYED)
    other = tmp_path / "forged.jsonl"
    written(other, keys=PLAIN)
    assert verify([other], PLAIN).count == 0
    assert verify([other], KEYED).count == 10


def test_a_cut_end_is_seen_only_with_a_hash_from_elsewhere(tmp_path):
    path = tmp_path / "audit.jsonl"
    lines = written(path)
    head = verify([path], PLAIN).hash
    assert verify([path], PLAIN, head).count == 0
    assert verify([path], PLAIN, json.loads(lines[5])["hash"]).count == 0, "one that was the last at some time"
    path.write_bytes(b"".join(lines[:-1]))
    assert verify([path], PLAIN).count == 0
    report = verify([path], PLAIN, head)
    assert report.count == 1
    assert "the end was cut off" in report.findings[0]


def test_a_half_last_line_is_a_note(tmp_path):
    path = tmp_path / "audit.jsonl"
    lines = written(path)
    path.write_bytes(b"".join(lines)[:-30])
    report = verify([path], PLAIN)
    assert (report.count, report.entries, len(report.notes)) == (0, 9, 1)
    assert "ends with" in report.notes[0]


def test_a_removed_file_is_found(tmp_path):
    path = tmp_path / "audit.jsonl"
    log = Journal(path, PLAIN, max_bytes=64 * 1024, max_age=None, kept=None)
    for _ in range(20):
        log.append([{"type": "call", "name": "x" * 1000}] * 20)
    log.close()
    files = files_of(path)
    assert verify(files, PLAIN).count == 0
    report = verify([*files[:2], *files[3:]], PLAIN)
    assert report.count == 1
    assert "are missing before entry" in report.findings[0]


def test_a_log_that_was_begun_with_a_key_says_so(tmp_path):
    path = tmp_path / "audit.jsonl"
    log = Journal(path, KEYED, max_bytes=1 << 30, max_age=None, kept=None)
    log.append([{"type": "start", "chain": "hmac-sha256"}])
    log.close()
    assert any("begun with hmac-sha256" in one for one in verify([path], PLAIN).findings)


def test_a_run_without_a_stop_is_a_note(tmp_path):
    path = tmp_path / "audit.jsonl"
    log = Journal(path, PLAIN, max_bytes=1 << 30, max_age=None, kept=None)
    log.append([{"type": kind, "chain": "sha256"} for kind in ("start", "call", "stop", "start", "start", "stop")])
    log.close()
    report = verify([path], PLAIN)
    assert report.count == 0
    assert [note.partition(": ")[0].rpartition(":")[2] for note in report.notes] == ["5"]


def test_ten_thousand_entries(tmp_path):
    path = tmp_path / "audit.jsonl"
    lines = written(path, 10_000, KEYED)
    report = verify([path], KEYED)
    assert (report.entries, report.count, report.first, report.last) == (10_000, 0, 1, 10_000)
    lines[7654] = lines[7654].replace(b"tool7654", b"tool1234")
    path.write_bytes(b"".join(lines))
    assert [one.partition(": ")[2] for one in verify([path], KEYED).findings] == [
        "entry 7655 was changed: its hash is not that of its content"
    ]


def test_a_broken_log_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"no entry\n" * 5000)
    report = verify([path], PLAIN)
    assert (report.count, len(report.findings)) == (5000, 1000)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"\xff" * 200, b'{"seq":1,"prev":"x","hash":"' + b"0" * 64 + b'"}', b"[" * 100_000]
)
def test_damaged_lines_are_no_entries(line):
    entry = read_entry(line)
    assert entry is None or entry.seq == 1


def test_the_hash_covers_every_byte_before_it():
    line, made = sealed(b'{"seq":1}', "0" * 64, None)
    assert made == hash_of(line.rpartition(b',"hash"')[0], None)
    assert hash_of(line, b"k") != hash_of(line, b"other")


def test_the_keys_of_a_file(tmp_path):
    path = tmp_path / "key"
    with pytest.raises(UnusableKey, match="there is no such key file; to make one"):
        keys_of(path, b"")
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(UnusableKey, match="has 5 bytes; it needs at least 32"):
        keys_of(path, b"")
    path.write_text("s" * 64 + "\n")
    found = keys_of(path, b"")
    assert found.chain is not None
    assert len({found.chain, found.digest, b"s" * 64}) == 3
    assert found.method == "hmac-sha256"
    path.chmod(0o644)
    with pytest.raises(UnusableKey, match="others may read it"):
        keys_of(path, b"")
    assert keys_of(None, b"other") == Keys(None, b"other")
