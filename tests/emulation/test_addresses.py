"""The addresses that the emulated driver hands out, which decide the blocks that PyTorch's allocator prefers."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

# Calls of the driver itself: torch is not needed, so that a run takes a few milliseconds.
CALLS = """
import ctypes, json, mmap, os, random, resource, sys
driver = ctypes.CDLL("libcuda.so.1")
MIB, GIB, TIB = 2**20, 2**30, 2**40
FIRST = 0x100000000000

def take(size):
    address = ctypes.c_uint64()
    assert driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)) == 0
    return address.value

def free(address):
    assert driver.cuMemFree_v2(ctypes.c_uint64(address)) == 0

def reserve(size):
    address = ctypes.c_uint64()
    assert driver.cuMemAddressReserve(ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_size_t(0),
                                      ctypes.c_uint64(0), ctypes.c_ulonglong(0)) == 0
    return address.value

def occupy(address, size):
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
    assert libc.mmap(ctypes.c_void_p(address), ctypes.c_size_t(size), mmap.PROT_READ, flags, -1, 0) == address
"""


@pytest.fixture
def run(on_card):
    """Run a program of such calls on a card and return the finished process."""

    def run(code, card="t4"):
        command = [sys.executable, "-S", "-c", CALLS + textwrap.dedent(code)]
        environ = {**os.environ, **on_card(card)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    return run


@pytest.fixture
def printed(run):
    """Run such a program and return what it printed as JSON."""

    def printed(code, card="t4"):
        done = run(code, card)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return printed


def test_addresses_ascend_without_gaps_from_one_that_is_fixed(printed):
    found = printed("print(json.dumps([take(size) - FIRST for size in (1, 20 * MIB, 3 * MIB, 5)]))")
    assert [offset / 2**20 for offset in found] == [0, 2, 22, 26]


def test_the_lowest_hole_that_is_large_enough_is_filled_first(printed):
    found = printed("""
    a, b, c, d, e = (take(size * MIB) for size in (4, 2, 8, 2, 2))
    for address in (a, c):
        free(address)
    print(json.dumps([take(size * MIB) - FIRST for size in (6, 2, 4, 2, 2)]))
    """)
    assert [offset / 2**20 for offset in found] == [6, 0, 18, 2, 12]


def test_neighbouring_holes_become_one(printed):
    found = printed("""
    several = [take(2 * MIB) for _ in range(5)]
    for index in (1, 3, 2):
        free(several[index])
    holes = [take(6 * MIB) - FIRST]
    for address in (several[0], several[4], holes[0] + FIRST):
        free(address)
    print(json.dumps([*holes, take(TIB // 128) - FIRST]))
    """)
    assert [offset / 2**20 for offset in found] == [2, 0]


def test_random_calls_hand_out_no_address_twice(printed):
    assert printed("""
    random.seed(1)
    live = {}
    for _ in range(3000):
        if live and random.random() < 0.5:
            address = random.choice(sorted(live))
            free(address)
            del live[address]
        else:
            size = random.randint(1, 8) * 2 * MIB
            # The definition: the first place, from the lowest on, at which nothing is in the way.
            places = sorted([FIRST, *(address + taken for address, taken in live.items())])
            expected = next(at for at in places
                            if all(at + size <= address or at >= address + taken for address, taken in live.items()))
            address = take(size)
            assert address == expected, (address, expected)
            live[address] = size
    print(json.dumps(len(live)))
    """, "h200")  # fmt: skip


def test_what_is_there_already_is_left_alone(printed):
    found = printed("""
    occupy(FIRST, 64 * MIB)
    first, second = take(2 * MIB), take(4 * MIB)
    free(second)
    print(json.dumps([first - FIRST, second - FIRST, take(2 * MIB) - FIRST]))
    """)
    assert found == [2**40, 2**40 + 2 * 2**20, 2**40 + 2 * 2**20]


def test_more_is_reserved_than_the_range_holds(printed):
    """Expandable segments reserve more addresses than the card has bytes, one range for each pool and stream."""
    found = printed("""
    several = [reserve(9 * TIB) for _ in range(9)]
    for address in several:
        assert driver.cuMemAddressFree(ctypes.c_uint64(address), ctypes.c_size_t(9 * TIB)) == 0
    print(json.dumps([len(set(several)), [address % (2 * MIB) for address in several], take(1) - FIRST]))
    """)
    assert found == [9, [0] * 9, 0]


def test_a_limit_on_addresses_counts_only_what_is_handed_out(printed):
    assert printed("""
    resource.setrlimit(resource.RLIMIT_AS, (16 * GIB, 16 * GIB))
    print(json.dumps(take(4 * GIB) - FIRST))
    """) == 0  # fmt: skip


def test_the_end_of_addresses_is_named(run):
    done = run("""
    resource.setrlimit(resource.RLIMIT_AS, (2 * GIB, 2 * GIB))
    take(4 * GIB)
    """)
    assert done.returncode != 0
    assert "ulimit -v" in done.stderr


@pytest.mark.parametrize("access", ["ctypes.string_at(address, 1)", "ctypes.memset(address, 0, 1)"])
def test_the_host_cannot_touch_device_memory(run, access):
    done = run(f"address = take(2 * MIB)\n{access}")
    assert done.returncode == -11


def test_a_child_has_addresses_of_its_own(printed):
    found = printed("""
    take(2 * MIB)
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps(take(2 * MIB) - FIRST).encode())
        os._exit(0)
    os.wait()
    print(json.dumps([json.loads(os.read(read, 100)), take(2 * MIB) - FIRST]))
    """)
    assert found == [2 * 2**20] * 2
