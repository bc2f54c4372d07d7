import torch
from hypothesis import given
from hypothesis import strategies as st

from surge_mm.deploy.cpu.bitpacking import pack_bytes, pack_words, unpack_bytes


@given(st.integers(1, 200), st.integers(0, 2**31))
def test_a_sum_of_signs_is_a_count_of_equal_bits(n, seed):
    torch.manual_seed(seed)
    s, t = torch.randn(2, n)
    differing = pack_words(s).bitwise_xor(pack_words(t))
    assert differing.shape == (-(-n // 32),)
    count = sum(bin(word & (2**32 - 1)).count('1') for word in differing.tolist())
    assert (s.sign() * t.sign()).sum() == n - 2 * count


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 3), st.integers(0, 2**31))
def test_bytes_give_back_the_signs_of_a_weight(filters, channels, kernel, seed):
    torch.manual_seed(seed)
    w = torch.randn(filters, channels, kernel, kernel)
    packed = pack_bytes(w)
    assert packed.shape == (filters, -(-channels * kernel * kernel // 8))
    assert torch.equal(unpack_bytes(packed, w.shape), w.sign())


def test_the_sign_bit_decides():
    z = torch.tensor([[0.0, -0.0, 1e-45, -1e-45, float('inf'), -float('inf')]])
    assert pack_words(z).tolist() == [[0b101010]]
    assert pack_bytes(z).tolist() == [[0b101010]]
