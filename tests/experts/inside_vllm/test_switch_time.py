"""The cost of a switch is known, where the device says it later."""

from dataclasses import dataclass, field

import pytest

from experts.inside_vllm.switch_time import SwitchTime


@dataclass
class Device:
    """A device that carries out what was asked of it when ``run`` is called."""

    ms: float = 0.0
    asked: list["Mark | float"] = field(default_factory=list)

    def mark(self) -> "Mark":
        return Mark(self)

    def run(self) -> None:
        for each in self.asked:
            if isinstance(each, Mark):
                each.at = self.ms
            else:
                self.ms += each
        self.asked.clear()


@dataclass
class Mark:
    device: Device
    at: float | None = None

    def record(self) -> None:
        self.device.asked.append(self)

    def query(self) -> bool:
        return self.at is not None

    def elapsed_time(self, end_event: "Mark") -> float:
        assert self.at is not None, "as CUDA, which raises"
        assert end_event.at is not None
        return end_event.at - self.at


def test_a_switch_is_charged_what_the_device_took_and_not_what_asking_took() -> None:
    device = Device()
    taken = SwitchTime(device.mark)  # type: ignore[arg-type]
    taken.of(lambda: device.asked.append(12.0))
    assert taken.taken() == 0.0, "nobody waits for the device"
    device.run()
    assert taken.taken() == pytest.approx(0.012)
    assert taken.taken() == 0.0


def test_where_the_call_is_all_its_time_counts() -> None:
    taken = SwitchTime()
    taken.of(lambda: [*range(10_000)].clear())
    assert taken.taken() > 0.0
