#pragma once
// What the groups of the recorder share: the ledger they write to, memory that is addresses and
// nothing else, and index ranges that the host has put there.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "hybridmed/backend/concept.hpp"
#include "ledger.hpp"

namespace hybridmed::roofline {

inline Ledger ledger;

template <class T>
Span span(Index n, const T* p) {
  return {reinterpret_cast<std::uintptr_t>(p), static_cast<double>(n) * sizeof(T)};
}
template <class... I>
double real(I... n) {
  return (static_cast<double>(n) * ...);
}
/// What comes twice is read once.
inline void note(Entry e) {
  std::set<std::uintptr_t> seen;
  std::erase_if(e.reads, [&](const Span& s) { return !seen.insert(s.first).second; });
  ledger.add(std::move(e));
}
inline void elements(std::string_view kind, std::vector<Span> reads, std::vector<Span> writes) {
  note({kind, Pass::elements, 1, std::move(reads), std::move(writes)});
}
/// Bytes of double sums of chunks of `length`, written and read again.
inline double partial_sums(Index n, Index length, double sums) {
  return 2 * sizeof(double) * std::ceil(real(n) / real(length)) * sums;
}

/// Numbers that the host has put into the backend's memory, where they are short: index ranges
/// decide how much work there is.
class Kept {
 public:
  static void put(const void* host, const void* device, std::size_t bytes) {
    if (bytes > std::size_t{1} << 20 || bytes == 0) return;
    const auto* first = static_cast<const std::byte*>(host);
    all()[reinterpret_cast<std::uintptr_t>(device)] = {first, first + bytes};
  }
  /// Element i of `p`; 0 where the host has not put it there.
  static std::int32_t at(const std::int32_t* p, Index i) {
    const auto address = reinterpret_cast<std::uintptr_t>(p + i);
    auto it = all().upper_bound(address);
    if (it == all().begin()) return 0;
    --it;
    const std::size_t offset = address - it->first;
    std::int32_t x = 0;
    if (offset + sizeof x > it->second.size()) return 0;
    std::memcpy(&x, it->second.data() + offset, sizeof x);
    return x;
  }

 private:
  static std::map<std::uintptr_t, std::vector<std::byte>>& all() {
    static std::map<std::uintptr_t, std::vector<std::byte>> kept;
    return kept;
  }
};

/// Memory: addresses that nothing lies at.
struct Addresses {
  static void* allocate(std::size_t bytes) {
    static std::uintptr_t next = std::uintptr_t{1} << 40;
    const std::uintptr_t at = next;
    next += (bytes + 511) / 256 * 256;
    return reinterpret_cast<void*>(at);
  }
  static void deallocate(void*) noexcept {}
  static void copy_from_host(const void* host, void* device, std::size_t bytes) {
    Kept::put(host, device, bytes);
  }
  static void copy_to_host(const void*, void* host, std::size_t bytes) {
    std::memset(host, 0, bytes);
  }
};

}  // namespace hybridmed::roofline
