"""Silence on the underlay: who is asked, and when it counts."""

from ipaddress import IPv4Address

from proxypool.daemons.hearing import SILENT_AFTER_S, Hearing
from proxypool.daemons.messages import UnderlayHeard

PEER, HOST = IPv4Address("192.168.4.12"), IPv4Address("192.168.80.1")


class Underlay:
    """One on which packets come, or do not, and some answer."""

    def __init__(
        self, neighbours: tuple[IPv4Address, ...] = (PEER, HOST), answering: tuple[IPv4Address, ...] = ()
    ) -> None:
        self.count, self.now, self.answering = 0, 100.0, answering
        self.asked: list[IPv4Address] = []
        self.told: list[bool] = []
        self.hearing = Hearing(lambda: self.count, self.ask, self.tell, neighbours)

    def ask(self, address: IPv4Address) -> None:
        self.asked.append(address)
        self.count += address in self.answering

    def tell(self, message: UnderlayHeard) -> None:
        self.told.append(message.is_silent)

    def pass_time(self, seconds: float, *, packets: bool = False) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.count += packets
            self.hearing.look(self.now)


def test_while_packets_come_nobody_is_asked() -> None:
    underlay = Underlay()
    underlay.pass_time(10.0, packets=True)
    assert (underlay.asked, underlay.told) == ([], [])


def test_who_does_not_hear_anybody_says_so_once() -> None:
    underlay = Underlay()
    underlay.pass_time(1.0, packets=True)
    underlay.pass_time(SILENT_AFTER_S - 0.2)
    assert underlay.told == []
    assert underlay.asked.count(PEER) == underlay.asked.count(HOST) >= 3
    underlay.pass_time(10.0)
    assert underlay.told == [True]


def test_the_first_packet_ends_it() -> None:
    underlay = Underlay()
    underlay.pass_time(5.0)
    underlay.count += 1
    underlay.pass_time(0.1)
    assert underlay.told == [True, False]


def test_an_idle_underlay_is_not_silent_when_asked() -> None:
    underlay = Underlay(answering=(HOST,))
    underlay.pass_time(20.0)
    assert underlay.told == []


def test_with_nobody_to_ask_silence_means_nothing() -> None:
    underlay = Underlay(neighbours=())
    underlay.pass_time(20.0)
    assert underlay.told == []
