// Layers of a ResNet on CUDA against the reference backend: values, gradients, running statistics.
#include "conformance.hpp"
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/model/resnet.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

template <class T, class B>
void fill(const std::string& name, MasterParameter<T, B>& p, std::uint64_t seed) {
  Values v = normal(p.value.size(), seed, 0.3);
  if (p.value.shape().rank() == 1 && name.find("weight") != std::string::npos)
    for (double& x : v) x += 1;
  p.value = tensor<T, B>(v, p.value.shape());
}

/// The module's parameters filled, then all numbers after one forward and backward pass of f.
template <class T, class B, class M, class F>
Values pass(M& module, const Values& input, const Shape& shape, F&& f) {
  std::uint64_t seed = 0;
  nn::for_each_parameter(module, [&](const std::string& name, auto& p) { fill(name, p, ++seed); });
  const auto x = leaf<T, B>(input, shape);
  Tape tape;
  const RecordOn recording(tape);
  const Variable<T, B> y = f(use<Variable<T, B>>(x));
  Values all = values(y.tensor);
  const Variable<T, B> weight(tensor<T, B>(normal(y.tensor.size(), 99), y.tensor.shape()));
  backward(sum(multiply(y, weight)));
  const auto keep = [&](const Values& v) { all.insert(all.end(), v.begin(), v.end()); };
  keep(gradient(x));
  nn::for_each_parameter(module, [&](const std::string&, auto& p) { keep(gradient(p)); });
  return all;
}

template <class T>
void same(const Values& got, const Values& want) {
  CHECK(difference(got, want) <= 20 * tolerance<T> * std::max(1.0, largest(want)));
}

constexpr nn::Mode::Statistics statistics[] = {nn::Mode::Statistics::running,
                                               nn::Mode::Statistics::batch_and_move};

}  // namespace

TEST_CASE_TEMPLATE("BatchNorm moves its statistics as the reference does", T, float, double) {
  for (auto kind : statistics) {
    const auto run = [&](auto b) {
      using B = decltype(b);
      nn::BatchNorm<T, B> bn(6);
      nn::Mode mode;
      mode.statistics = kind;
      Values all = pass<T, B>(bn, normal(60, 5), {10, 6}, [&](auto x) { return bn(x, mode); });
      for (const auto* buffer : {&bn.running_mean, &bn.running_var})
        for (double v : values(buffer->value)) all.push_back(v);
      return all;
    };
    same<T>(run(Cuda{}), run(Reference{}));
  }
}

TEST_CASE_TEMPLATE("residual blocks with pooling", T, float, double) {
  for (bool bottleneck : {false, true})
    for (Index stride : {1, 2})
      for (auto kind : statistics) {
        const auto run = [&](auto b) {
          using B = decltype(b);
          model::ResidualBlock<T, B> block(4, 4, stride > 1 ? 8 : 4, stride, bottleneck);
          nn::Mode mode;
          mode.statistics = kind;
          return pass<T, B>(block, normal(2 * 81 * 4, 5), {2 * 81, 4}, [&](auto x) {
            Index side = 5;
            return block(max_pool(x, {2, 9, 9, 4, 4, 3, 2, 1}), 2, side, mode);
          });
        };
        same<T>(run(Cuda{}), run(Reference{}));
      }
}

TEST_CASE_TEMPLATE("a ResNet", T, float, double) {
  const auto run = [](auto b) {
    using B = decltype(b);
    model::ResNetConfig config;
    config.image_size = 64;
    config.width = 4;
    config.depths = {1, 1, 1, 1};
    model::ResNet<T, B> encoder(config);
    const auto image = tensor<T, B>(normal(2 * 3 * 64 * 64, 5), {2, 3, 64, 64});
    return pass<T, B>(encoder, {0}, {1, 1}, [&](auto x) {
      return encoder
          .template operator()<decltype(x)>(image, nn::Mode::training(), model::Levels::all)
          .global;
    });
  };
  same<T>(run(Cuda{}), run(Reference{}));
}
