// The arena: blocks that do not overlap, memory that is used again, what it counts, threads.
#include "hybridmed/core/arena.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "core.hpp"
#include "errors.hpp"
#include "hybridmed/core/philox.hpp"
#include "hybridmed/core/tensor.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

struct Held {
  std::byte* at;
  std::size_t bytes;
  std::byte tag;
};

bool still_holds(const Held& h) {
  for (std::size_t i = 0; i < h.bytes; ++i)
    if (h.at[i] != h.tag) return false;
  return true;
}

/// `steps` random allocations and frees, at most `limit` blocks alive; every block is filled and
/// checked when freed. Returns "" or what went wrong first.
std::string exercise(std::uint64_t seed, int steps, std::size_t limit,
                     std::size_t* most = nullptr) {
  HostArena& arena = HostArena::instance();
  const Philox random(seed);
  std::vector<Held> live;
  std::map<std::byte*, std::byte*> ranges;  // begin -> end
  std::size_t held = 0;
  std::string wrong;
  const auto release = [&](std::size_t k) {
    if (!still_holds(live[k])) wrong = "a block changed while it was held";
    ranges.erase(live[k].at);
    held -= live[k].bytes;
    arena.deallocate(live[k].at);
    live[k] = live.back();
    live.pop_back();
  };
  for (int i = 0; i < steps && wrong.empty(); ++i) {
    const auto b = random.block(static_cast<std::uint64_t>(i));
    if (!live.empty() && (live.size() == limit || b[0] % 100 < 45)) {
      release(b[1] % live.size());
      continue;
    }
    const std::size_t bytes =
        b[2] %
        (std::size_t{1} << (b[1] % 17));  // sizes of all magnitudes up to 64 kB, zero included
    const Held h{static_cast<std::byte*>(arena.allocate(bytes)), bytes,
                 static_cast<std::byte>(b[3])};
    if (reinterpret_cast<std::uintptr_t>(h.at) % HostArena::alignment != 0)
      wrong = "a block is not aligned";
    std::byte* const end =
        h.at + (bytes ? bytes : 1);  // an empty block still has an address of its own
    const auto after = ranges.lower_bound(h.at);
    if (after != ranges.end() && after->first < end) wrong = "two blocks overlap";
    if (after != ranges.begin() && std::prev(after)->second > h.at) wrong = "two blocks overlap";
    ranges.emplace(h.at, end);
    std::memset(h.at, std::to_integer<int>(h.tag), bytes);
    live.push_back(h);
    held += bytes;
    if (most && held > *most) *most = held;
  }
  while (!live.empty()) release(live.size() - 1);
  return wrong;
}

}  // namespace

TEST_CASE("the arena serves random sequences without overlap and reuses its memory") {
  HostArena& arena = HostArena::instance();
  const auto before = arena.statistics();
  arena.reset_peak();
  CHECK(arena.statistics().peak == before.in_use);

  std::size_t most = 0;
  CHECK(exercise(1, 20000, 300, &most) == "");
  const auto after = arena.statistics();
  CHECK(after.in_use == before.in_use);
  CHECK(after.peak >= before.in_use + most);
  CHECK(after.high_mark >= after.peak);

  CHECK(exercise(1, 20000, 300) == "");
  CHECK(arena.statistics().high_mark == after.high_mark);  // the same sequence needs no new memory
  CHECK(arena.statistics().in_use == before.in_use);
}

TEST_CASE("the arena merges neighbours when they are freed") {
  HostArena& arena = HostArena::instance();
  constexpr std::size_t small = 4096, count = 64;
  std::array<void*, count> blocks;
  for (void*& b : blocks) b = arena.allocate(small);
  void* const guard = arena.allocate(small);  // keeps the end of the arena occupied
  const auto mark = arena.statistics().high_mark;
  for (std::size_t i = 0; i < count; i += 2) arena.deallocate(blocks[i]);
  for (std::size_t i = 1; i < count; i += 2) arena.deallocate(blocks[i]);
  void* const large = arena.allocate(small * count / 2);  // fits only into merged blocks
  CHECK(large >= *std::min_element(blocks.begin(), blocks.end()));
  CHECK(large < guard);
  CHECK(arena.statistics().high_mark == mark);
  arena.deallocate(large);
  arena.deallocate(guard);
  arena.deallocate(nullptr);
}

TEST_CASE("the arena counts what it holds") {
  HostArena& arena = HostArena::instance();
  const auto before = arena.statistics();
  void* a = arena.allocate(1000);
  const auto one = arena.statistics();
  CHECK(one.in_use >= before.in_use + 1000);
  CHECK(one.in_use <= before.in_use + 1000 + 4 * HostArena::alignment);
  arena.deallocate(a);
  CHECK(arena.statistics().in_use == before.in_use);
  CHECK(starts_with(error_of([&] { arena.allocate(std::size_t{1} << 45); }),
                    "[hybridmed.core] allocate"));
  CHECK(arena.statistics().in_use == before.in_use);
  {
    ArenaVector<int> v;
    for (int i = 0; i < 1000; ++i) v.push_back(i);
    CHECK(v[999] == 999);
    CHECK(arena.statistics().in_use > before.in_use);
  }
  CHECK(arena.statistics().in_use == before.in_use);
}

TEST_CASE("the arena may be used from several threads") {
  const auto before = HostArena::instance().statistics();
  std::array<std::string, 3> wrong;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] { wrong[t] = exercise(100 + t, 3000, 50); });
  for (auto& t : threads) t.join();
  for (const auto& w : wrong) CHECK(w == "");
  CHECK(HostArena::instance().statistics().in_use == before.in_use);
}
