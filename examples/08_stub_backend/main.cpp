// The whole model compiles on the stub; running it says which kernel to write first.
#include "stub_backend.hpp"

#include <cstdio>
#include <hybridmed/model/hybridmed.hpp>
using namespace hybridmed;

static_assert(Backend<StubBackend, float> && Backend<StubBackend, double> &&
              Backend<StubBackend, bfloat16>);

int main() {
  try {
    auto model = model::make_hybridmed<float, StubBackend>(model::Config::preset("tiny"));
    std::printf("%lld parameters\n", static_cast<long long>(nn::count_parameters(model)));
  } catch (const Error& e) {
    std::printf("%s\n", e.what());
  }
}
