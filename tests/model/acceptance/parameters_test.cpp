// Item 5: the number of parameters; and the range of the temperature.
#include "acceptance.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::objective;
using namespace hybridmed::representation;

TEST_CASE("5. the decoder has 20 d^2 L parameters, biases, norms and two output layers") {
  for_each_preset([](Model& m, const model::Config& c) {
    const Index d = c.d, biases = (3 + 1) * d + 2 * (1 + 2 + 1) * d + (4 + 1) * d,
                norms = 2 * 2 * d + 2 * 2 * 2 * d;
    CHECK(nn::count_parameters(m.decoder) ==
          c.dec_blocks * (20 * d * d + biases + norms) + 2 * d + 2 * d * c.vocab);
    Index matrices = 0;
    nn::for_each_parameter(m.decoder.blocks[0], [&](const std::string&, auto& p) {
      matrices += p.value.shape().rank() == 2 ? p.value.size() : 0;
    });
    CHECK(matrices == 20 * d * d);
  });
}

TEST_CASE("the temperature is clamped to [0, ln 100] after every step") {
  for_each_preset([](Model& m, const model::Config& c) {
    const auto b = batch(m, studies());
    system::Composed composed(m, 1.0 * system::info_nce(c));
    auto& log_scale = std::get<0>(composed.states().each).log_scale;
    optim::AdamW<double, B> optimizer(composed, {});
    Tape tape;
    const auto after = [&](double start) {
      log_scale.value = tensor<double, B>({start}, {});
      train::train_step(composed, b, optimizer, 1e-4, tape, nn::Mode::training());
      return log_scale.value.item();
    };
    CHECK(log_scale.value.item() == doctest::Approx(std::log(1 / .07)).epsilon(1e-14));
    CHECK(InfoNce{}.temperature.log_scale == c.log_scale_init);
    CHECK(InfoNce{}.temperature.log_scale_max == c.log_scale_max);
    CHECK(after(7) == doctest::Approx(std::log(100.0)).epsilon(1e-15));
    CHECK(after(-3) == 0);
    const double inside = after(2);
    CHECK(inside != 2);
    CHECK(std::abs(inside - 2) < 1e-3);
    CHECK(c.log_scale_max == doctest::Approx(std::log(100.0)).epsilon(1e-15));
  });
}
