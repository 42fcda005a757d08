// Host: a tensor in host memory with core headers alone; no backend is included here.
#include "hybridmed/core/host.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "errors.hpp"
#include "hybridmed/core/tensor.hpp"

using namespace hybridmed;
using hybridmed::test::error_of;

TEST_CASE_TEMPLATE("a table in host memory: there, read in place, and back", T, std::int32_t, float,
                   double) {
  using X = Tensor<T, Host>;
  static_assert(Host::host_memory);
  const auto before = HostArena::instance().statistics().in_use;
  {
    const std::vector<T> numbers{0, 3, 3, std::numeric_limits<T>::max(),
                                 std::numeric_limits<T>::lowest()};
    const X table = X::from_host(numbers, {5});
    for (Index i = 0; i < table.size(); ++i)  // the host reads it where it is
      CHECK(table.data()[i] == numbers[static_cast<std::size_t>(i)]);
    CHECK(table.to_host() == numbers);

    const X copy = table.clone();
    CHECK(copy.data() != table.data());
    copy.data()[1] = 7;
    CHECK(copy.to_host()[1] == 7);
    CHECK(table.to_host() == numbers);

    CHECK(X::full({2, 3}, 4).to_host() == std::vector<T>(6, 4));
    CHECK(X::zeros({3}).to_host() == std::vector<T>(3, 0));
    CHECK(X::full({}, 9).item() == 9);
  }
  CHECK(HostArena::instance().statistics().in_use == before);
}

TEST_CASE("host memory: nothing to copy is no error") {
  using X = Tensor<std::int32_t, Host>;
  const X none = X::from_host({}, {0});
  CHECK(none.defined());
  CHECK(none.to_host().empty());
  CHECK(none.clone().size() == 0);
  CHECK(X::full({0, 4}, 1).size() == 0);
  Host::copy_from_host(nullptr, nullptr, 0);
  Host::copy_to_host(nullptr, nullptr, 0);
  Host::fill(0, 1, static_cast<std::int32_t*>(nullptr));
  Host::copy(0, static_cast<const std::int32_t*>(nullptr), static_cast<std::int32_t*>(nullptr));
  Host::deallocate(nullptr);
}

TEST_CASE("host memory: what it hands out is aligned as the arena says, and given back") {
  const auto before = HostArena::instance().statistics().in_use;
  void* p = Host::allocate(1);
  CHECK(reinterpret_cast<std::uintptr_t>(p) % HostArena::alignment == 0);
  CHECK(HostArena::instance().statistics().in_use > before);
  Host::deallocate(p);
  CHECK(HostArena::instance().statistics().in_use == before);
  CHECK(error_of([] { Host::allocate(std::numeric_limits<std::size_t>::max()); }) ==
        "[hybridmed.core] allocate: a size of 18446744073709551615 bytes overflows");
}
