"""hosts.py: a host out of reach is known in a moment, not after a library's retries."""

import pytest

from mcontriever.errors import HubError
from mcontriever.hosts import require_host


@pytest.mark.parametrize("address", ["http://", "https:///path", "http://[::1", "http://host:port/"])
def test_an_address_without_a_host_is_named(address: str) -> None:
    with pytest.raises(HubError, match=r"the address names no host|not an address"):
        require_host(address, "give a local folder")


def test_a_host_that_is_not_there_is_named_with_the_way_out() -> None:
    with pytest.raises(HubError, match=r"cannot be reached.*\n.*\n  fix: give a local folder"):
        require_host("https://nowhere.invalid/data", "give a local folder")
