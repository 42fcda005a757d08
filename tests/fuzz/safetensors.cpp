// Any bytes as a safetensors file, and what it gives as weights of a small model.
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/io/weights.hpp"
#include "hybridmed/nn/layers.hpp"
#include "target.hpp"

namespace {
using namespace hybridmed;

struct Tiny {
  nn::Linear<float, Reference> first{2, 3};
  nn::BatchNorm<float, Reference> norm{2};
  template <class F>
  void visit(F&& f) {
    f("first", first);
    f("norm", norm);
  }
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  fuzz::guarded("some.safetensors", [&] {
    const io::Safetensors file(std::vector<std::byte>(bytes, bytes + size), "some.safetensors");
    double sum = 0;
    for (const auto& [name, t] : file.tensors()) {
      std::uint64_t n = 1;
      for (const Index extent : t.shape) n *= static_cast<std::uint64_t>(extent);
      fuzz::require(n == static_cast<std::uint64_t>(t.size()),
                    "a tensor holds as many elements as its shape says:", name);
      for (Index i = 0; i < t.size(); ++i) sum += t.at(i);
      fuzz::require(file.find(name) == &t, "a tensor is found by its name:", name);
    }
    volatile double kept = sum;  // the elements are really read
    (void)kept;
    Tiny model;
    const io::LoadReport report = io::load_weights(model, file);
    const std::size_t reported =
        report.loaded.size() + report.unexpected.size() + report.mismatched.size();
    fuzz::require(reported == file.tensors().size(), "every tensor of the file is reported once");
  });
  return 0;
}
