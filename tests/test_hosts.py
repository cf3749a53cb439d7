"""hosts.py: a host out of reach is known in a moment, not after a library's retries."""

from pathlib import Path

import pytest

from mcontriever.errors import ConfigError, HubError
from mcontriever.hosts import check_hostfile, require_host


@pytest.mark.parametrize("address", ["http://", "https:///path", "http://[::1", "http://host:port/"])
def test_an_address_without_a_host_is_named(address: str) -> None:
    with pytest.raises(HubError, match=r"the address names no host|not an address"):
        require_host(address, "give a local folder")


def test_a_host_that_is_not_there_is_named_with_the_way_out() -> None:
    with pytest.raises(HubError, match=r"cannot be reached.*\n.*\n  fix: give a local folder"):
        require_host("https://nowhere.invalid/data", "give a local folder")


def test_a_hostfile_that_names_a_host_twice_is_one_message(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("worker-1 slots=4\n# worker-1\n\nworker-2 slots=4\n")
    check_hostfile(["deepspeed", "--hostfile", str(hostfile), "--num_gpus", "4"])
    hostfile.write_text("worker-1 slots=4\nworker-2 slots=4\nworker-1 slots=2\n")
    with pytest.raises(ConfigError, match=r"host worker-1 is in line 1 and again in line 3\n.*\n.*worker-1 slots=N"):
        check_hostfile(["deepspeed", "-H", str(hostfile)])
    with pytest.raises(ConfigError, match=r"no such hostfile\n.*gone"):
        check_hostfile(["deepspeed", "--hostfile", str(tmp_path / "gone")])
