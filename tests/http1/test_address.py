"""Network addresses in their canonical form."""

import pytest

from gateway_core.http1.address import canonical_address


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("FD00::0:1", "fd00::1"),
        ("stdio", "stdio"),
    ],
)
def test_one_machine_has_one_address(address: str, canonical: str) -> None:
    assert canonical_address(address) == canonical
