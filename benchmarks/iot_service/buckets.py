"""Token buckets, one an API: they hold one second's calls and refill at the quota; time may run faster by a scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Buckets:
    """Whether a call is let through, by API and time; APIs without a quota always are."""

    def __init__(self, quotas: Mapping[str, float], *, scale: float) -> None:
        """`quotas` in calls a second; at scale 10 a second of theirs passes in a tenth of one."""
        self._quotas = dict(quotas)
        self._scale = scale
        self._tokens = dict(quotas)
        self._at: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self.throttles: Counter[str] = Counter()

    def take(self, api: str, now: float) -> bool:
        """Takes a token of the API's; False where there is none, which is a throttle."""
        self.calls[api] += 1
        quota = self._quotas.get(api)
        if quota is None:
            return True
        passed = (now - self._at.get(api, now)) * self._scale
        tokens = min(quota, self._tokens[api] + passed * quota)
        self._at[api] = now
        self._tokens[api] = tokens - 1 if tokens >= 1 else tokens
        if tokens < 1:
            self.throttles[api] += 1
        return tokens >= 1
