// Memory of a CUDA context: blocks that stay with it, what they count, copies through pinned
// memory, and the end of memory.
#include <doctest/doctest.h>

#include <numeric>
#include <vector>

#include "errors.hpp"
#include "hybridmed/backend/cuda/backend.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using cuda::Context;
using cuda::memory_statistics;
using cuda::Use;
using Bytes = Tensor<std::byte, Cuda>;

namespace {

Bytes bytes(std::size_t n) { return Bytes({static_cast<Index>(n)}); }

}  // namespace

TEST_CASE("what is freed is handed out again, without the driver") {
  const Context context;
  const Use use(context);
  const auto work = [] {
    std::vector<Bytes> all;
    for (std::size_t n : {0, 1, 511, 512, 513, 4096, 4097, 5000, 100000, 100001, 3 << 20})
      all.push_back(bytes(n));
    all.erase(all.begin() + 3);
    all.push_back(bytes(512));
    const auto t = Tensor<float, Cuda>::full({70000}, 2.0f);
    CHECK(values(t) == Values(70000, 2.0));
  };
  work();
  const auto first = memory_statistics();
  CHECK(first.in_use == 0);
  CHECK(first.peak > (3u << 20));
  CHECK(first.reserved >= first.peak);
  for (int i = 0; i < 5; ++i) work();
  const auto later = memory_statistics();
  CHECK(later.driver_calls == first.driver_calls);
  CHECK(later.reserved == first.reserved);
  CHECK(later.peak == first.peak);
  CHECK(later.in_use == 0);
}

TEST_CASE("a block is at most an eighth too large, and serves no request far below its size") {
  const Context context;
  const Use use(context);
  for (std::size_t n : {1u, 512u, 600u, 4096u, 4097u, 8192u, 8193u, 123456u, (1u << 20) + 1}) {
    const auto before = memory_statistics().in_use;
    const auto t = bytes(n);
    const auto block = memory_statistics().in_use - before;
    CHECK(block >= n);
    CHECK(block <= std::max<std::size_t>(n + 512, n + n / 8 + 1));
  }
  const auto calls = memory_statistics().driver_calls;
  { const auto near = bytes(1000000); }  // the block of a little more than a million bytes
  CHECK(memory_statistics().driver_calls == calls);
  { const auto small = bytes(400000); }
  CHECK(memory_statistics().driver_calls == calls + 1);
}

TEST_CASE("memory that others read goes back in their order") {
  const Context first, second;
  const Index n = 5000;
  const auto in_first = [&](float x) {
    const Use use(first);
    return Tensor<float, Cuda>::full({n}, x);
  };
  const Use use(second);
  for (int i = 0; i < 6; ++i) {
    auto x = in_first(static_cast<float>(i));
    second.wait_for(first);
    const auto copy = x.clone();
    x = {};
    const auto next = in_first(-1);  // the same block, at once
    CHECK(values(copy) == Values(static_cast<std::size_t>(n), i));
  }
}

TEST_CASE("copies of every size arrive, and the caller's memory is free at once") {
  const Context context;
  const Use use(context);
  // Small ones, ones that cross on a stream of their own, and more than a slot.
  for (Index n : {1, 3, 16384, 16385, 50000, (1 << 20) - 1, (1 << 20) + 7, (5 << 20) / 2}) {
    std::vector<float> host(static_cast<std::size_t>(n));
    std::iota(host.begin(), host.end(), 1.0f);
    const std::vector<float> want = host;
    const auto t = Tensor<float, Cuda>::from_host(host, {n});
    std::fill(host.begin(), host.end(), -1.0f);
    const bool same = t.to_host() == want;
    CHECK(same);
  }
  // Into memory that a kernel was reading when the copy was issued.
  const Index n = 30000;
  const auto t = Tensor<float, Cuda>::full({n}, 1.0f);
  const std::vector<float> twos(static_cast<std::size_t>(n), 2.0f);
  const auto before = t.clone();
  Cuda::copy_from_host(twos.data(), t.data(), twos.size() * sizeof(float));
  const auto after = t.clone();
  CHECK(values(before) == Values(twos.size(), 1.0));
  CHECK(values(after) == Values(twos.size(), 2.0));
}

TEST_CASE("uploads take no more pinned memory than they need, and then none") {
  const Context context;
  const Use use(context);
  const std::vector<float> host(40000, 3.0f);
  const auto t = Tensor<float, Cuda>::from_host(host, {40000});
  const auto upload = [&] {
    for (int i = 0; i < 40; ++i)
      Cuda::copy_from_host(host.data(), t.data(), host.size() * sizeof(float));
    CHECK(t.to_host() == host);
  };
  upload();
  upload();
  const auto calls = memory_statistics().driver_calls;
  for (int i = 0; i < 4; ++i) upload();
  CHECK(memory_statistics().driver_calls == calls);
}

TEST_CASE(
    "beyond the device's memory: the error says what was asked, free and there, once what is "
    "kept was given back") {
  const Context context;
  const Use use(context);
  { const auto kept = bytes(64 << 20); }
  CHECK(memory_statistics().reserved >= (64u << 20));
  std::string message;
  try {
    const auto t = bytes(std::size_t{1} << 49);
  } catch (const OutOfMemory& e) {
    message = e.what();
  }
  CHECK(holds(message,
              "[hybridmed.cuda] allocate: the device is out of memory for "
              "562949953421312 bytes: "));
  CHECK(holds(message, " are free, and 0 in use by this context, on device 0 ("));
  CHECK(holds(message, "; hint: a smaller batch needs less"));
  CHECK(memory_statistics().reserved == 0);
  CHECK(memory_statistics().in_use == 0);
  CHECK(values(Tensor<float, Cuda>::full({3}, 2.0f)) == Values{2, 2, 2});
}
