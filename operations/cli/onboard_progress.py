"""Shows a running onboarding on stderr: a live line on a terminal, a plain one every ten seconds elsewhere."""

from __future__ import annotations

from rich.progress import TextColumn

from fleet_iot.generator.diagnostics import visible
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.registry.preparation import Pairing
from fleet_iot.operations.registry.steps import Meter


class Display(Progress):
    """Devices done, the rate, its share of what the quotas allow, failures, time left; use as a context manager."""

    def __init__(self, task: str, *, ceiling: float | None) -> None:
        """`ceiling` is the devices a second that the quotas allow; None where there are no quotas."""
        super().__init__(task, last=TextColumn("{task.fields[told]}"))
        self._ceiling = ceiling

    def show(self, meter: Meter) -> None:
        """How far it is now."""
        done, told = meter.done + meter.failed, self.told(meter)
        self.tell(f"{done:,} of {meter.total:,}, {told}", done=done, total=meter.total, told=told)

    def told(self, meter: Meter) -> str:
        """Rate, share of the quota, failures and time left in words."""
        rate = meter.rate
        words = [f"{rate:.1f}/s"]
        if self._ceiling:
            words.append(f"{rate / self._ceiling:.0%} of the quota")
        words.append(f"{meter.failed:,} failed")
        if rate > 0:
            words.append(f"{duration((meter.total - meter.done - meter.failed) / rate)} left")
        return ", ".join(words)


def pairing_text(pairing: Pairing) -> list[str]:
    """How rows were paired, in a line of counts and a line for each of the first pairs."""
    if not pairing.ways:
        return []
    counts = ", ".join(f"{count:,} by {way}" for way, count in pairing.ways.items())
    return [visible(f"paired: {counts}"), *(f"  {visible(pair)}" for pair in pairing.first)]


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
