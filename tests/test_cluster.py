from __future__ import annotations

import pytest
import ray

from diet_ray.cluster import connect
from diet_ray.errors import ClusterError


@pytest.mark.parametrize(
    ("address", "said"), [(None, "can't start Ray on this machine"), ("ray:1", "at ray:1")]
)
def test_what_ray_raises_when_it_does_not_start_is_one_line(
    address: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(**arguments: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", slow)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match=said) as raised:
        connect(address)
    assert "timed out during startup" in str(raised.value)
