"""Books within books, and what is kept free for one who waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celery_actors.need import Need
from celery_actors.placement import Ledger
from tests.unit.needs import GPU, ONE, gpu_amounts, grant, of_gpus

# -- reservations ----------------------------------------------------------------------------


def test_a_reservation_shares_out_the_devices_that_it_has() -> None:
    whole = Ledger.of(cpus=4, gpus=3, custom={}, kinds=["A", "B", "B"])
    grant(whole, of_gpus(1, "A"))
    held = grant(whole, Need.of(cpus=1, gpus=2, custom={}))
    books = Ledger.within(held, whole.kinds)
    assert books.could_hold(Need.of(cpus=1, gpus=2, custom={}))
    assert not books.could_hold(Need.of(cpus=2, custom={}))
    assert grant(books, of_gpus(0.5)).gpu_ids == (1,)
    assert grant(books, of_gpus(1)).gpu_ids == (2,)
    assert books.acquire(of_gpus(1)) is None
    assert whole.gpus == {0: 0, 1: 0, 2: 0}


def test_a_reserved_share_of_a_device_is_that_share() -> None:
    whole = Ledger.of(cpus=0, gpus=1, custom={})
    books = Ledger.within(grant(whole, of_gpus(0.5)), whole.kinds)
    assert not books.could_hold(of_gpus(0.6))
    assert grant(books, of_gpus(0.25)).gpu_ids == (0,)
    assert grant(books, of_gpus(0.25)).gpu_ids == (0,)
    assert books.acquire(of_gpus(0.1)) is None
    assert whole.gpus == {0: 5_000}


def test_a_reservation_without_devices_has_none() -> None:
    whole = Ledger.of(cpus=2, gpus=2, custom={})
    books = Ledger.within(grant(whole, ONE), whole.kinds)
    assert not books.could_hold(of_gpus(0.1))
    assert books.could_hold(ONE)


# -- what is saved for another ----------------------------------------------------------------


def leaves(ledger: Ledger, need: Need, saved: Need) -> bool:
    before = (dict(ledger.free), dict(ledger.gpus))
    found = ledger.leaves(need, saved)
    assert (ledger.free, ledger.gpus) == before
    return found


def test_what_one_who_waits_does_not_ask_for_is_left_to_others() -> None:
    ledger = Ledger.of(cpus=1, gpus=1, custom={"ssd": 1})
    grant(ledger, GPU)
    assert leaves(ledger, Need.of(cpus=1, custom={"ssd": 1}), saved=GPU)
    assert leaves(ledger, Need(), saved=GPU)


def test_nothing_of_what_it_lacks_is_taken() -> None:
    ledger = Ledger.of(cpus=4, gpus=0, custom={})
    grant(ledger, ONE)
    assert not leaves(ledger, Need.of(cpus=0.5, custom={}), saved=Need.of(cpus=4, custom={}))


def test_what_is_more_than_it_asks_for_is_left_to_others() -> None:
    ledger = Ledger.of(cpus=4, gpus=0, custom={"ssd": 1})
    grant(ledger, Need.of(custom={"ssd": 1}))
    saved = Need.of(cpus=3, custom={"ssd": 1})
    assert leaves(ledger, ONE, saved)
    assert not leaves(ledger, Need.of(cpus=2, custom={}), saved)


def test_what_cannot_be_granted_anyhow_takes_nothing_away() -> None:
    ledger = Ledger.of(cpus=1, gpus=0, custom={})
    assert leaves(ledger, Need.of(cpus=2, custom={}), saved=ONE)


def test_a_share_leaves_whole_devices_for_one_who_needs_them() -> None:
    ledger = Ledger.of(cpus=0, gpus=3, custom={})
    grant(ledger, of_gpus(0.5))
    assert leaves(ledger, of_gpus(0.5), saved=of_gpus(2))
    assert not leaves(ledger, of_gpus(0.6), saved=of_gpus(2))


def test_while_devices_lack_none_is_given_out() -> None:
    # Whichever comes free first: shares on all of them could go on for ever.
    ledger = Ledger.of(cpus=0, gpus=2, custom={})
    for _ in range(2):
        grant(ledger, of_gpus(0.6))
    assert ledger.free["GPU"] == 8_000
    assert not leaves(ledger, of_gpus(0.25), saved=GPU)


def test_devices_of_another_type_are_left_to_others() -> None:
    ledger = Ledger.of(cpus=0, gpus=2, custom={}, kinds=["A", "B"])
    grant(ledger, of_gpus(1, "A"))
    assert leaves(ledger, of_gpus(1, "B"), saved=of_gpus(1, "A"))
    assert leaves(ledger, of_gpus(1), saved=of_gpus(1, "A"))
    assert not leaves(ledger, of_gpus(1), saved=of_gpus(1, "B"))
    assert not leaves(ledger, of_gpus(0.5), saved=of_gpus(2))


def test_devices_that_were_not_pinned_are_left_to_others() -> None:
    ledger = Ledger.of(cpus=0, gpus=2, custom={})
    grant(ledger, of_gpus(1, gpu_ids=[0]))
    assert leaves(ledger, GPU, saved=of_gpus(1, gpu_ids=[0]))
    assert not leaves(ledger, GPU, saved=of_gpus(1, gpu_ids=[1]))


@given(st.data())
def test_one_that_fits_and_is_saved_for_fits_still(data: st.DataObject) -> None:
    ledger = Ledger.of(cpus=4, gpus=3, custom={"ssd": 2}, kinds=["A", "B", "A"])
    asked = st.builds(
        lambda cpus, gpus, kind, ssd: Need.of(
            cpus=cpus, gpus=gpus, accelerator=kind if gpus else "", custom={"ssd": ssd}
        ),
        st.integers(0, 3), gpu_amounts(3), st.sampled_from(["", "A", "B"]), st.integers(0, 2),
    )  # fmt: skip
    saved = data.draw(asked)
    for need in data.draw(st.lists(asked, max_size=8)):
        fitted = ledger.fits(saved)
        if ledger.leaves(need, saved):
            ledger.acquire(need)
        assert ledger.fits(saved) or not fitted
