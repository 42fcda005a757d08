// What a system holds and computes, and what it does not: from its parameters and from counted
// kernel calls.
#include <doctest/doctest.h>

#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/step.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using T = double;
/// Counts the kernel calls that tell the parts of a model apart.
struct Counted : Reference {
  static inline int attention_calls = 0, local_calls = 0, cross_entropy_calls = 0,
                    contrast_calls = 0;
  static void reset() { attention_calls = local_calls = cross_entropy_calls = contrast_calls = 0; }

  template <class S>
  static void attention(const AttentionArgs<S>& a) {
    ++attention_calls;
    Reference::attention(a);
  }
  template <class S>
  static void attention_backward(const AttentionArgs<S>& a, const AttentionGradients<S>& g) {
    ++attention_calls;
    Reference::attention_backward(a, g);
  }
  template <class S>
  static void local_scores(const LocalArgs<S>& a, S* y) {
    ++local_calls;
    Reference::local_scores(a, y);
  }
  template <class S>
  static void local_scores_backward(const LocalArgs<S>& a, const S* x, S* y, S* z) {
    ++local_calls;
    Reference::local_scores_backward(a, x, y, z);
  }
  template <class S>
  static void cross_entropy(Index n, Index m, const S* z, const std::int32_t* t, double e, S* l,
                            S* lse) {
    ++cross_entropy_calls;
    Reference::cross_entropy(n, m, z, t, e, l, lse);
  }
  template <class S>
  static void symmetric_cross_entropy(Index n, const S* s, const std::int32_t* k, double e,
                                      double a, double b, S* l, S* d) {
    ++contrast_calls;
    Reference::symmetric_cross_entropy(n, s, k, e, a, b, l, d);
  }
};

/// An encoder without attention.
model::Config small_config() {
  auto config = model::Config::preset("tiny-resnet");
  config.image_size = 32;
  config.grid = 4;
  return config;
}

template <class S>
auto batch_for(const S& s) {
  const std::vector<std::int32_t> text{1, 20, 2, 1, 30, 31, 2}, at{0, 3, 7},
      words{1, 7, 8, 2, 1, 9, 2}, words_at{0, 4, 7};
  Tensor<T, Counted> image({2, 3, 32, 32});
  Counted::fill_normal(image.size(), Philox(3), 0.5, image.data());
  return model::Batch<T, Counted>{image, s.plan({words, words_at}, {text, at}, {})};
}

/// One training step of a stage; gives back the names of the system's parameters.
std::vector<std::string> one_step(const std::string& name,
                                  const model::Config& config = small_config(),
                                  std::size_t stage = 0) {
  const auto s = system::make_system<T, Counted>(name, config);
  nn::initialise(*s, 1);
  s->begin_stage(stage);
  const auto batch = batch_for(*s);
  optim::AdamW<T, Counted> optimizer(*s, {});
  Tape tape;
  Counted::reset();
  system::StageOf<T, Counted> view(*s, stage);
  const auto report = train::train_step(view, batch, optimizer, 1e-3, tape, nn::Mode::training());
  CHECK(report.finite);
  std::vector<std::string> names;
  nn::for_each_parameter(*s, [&](const std::string& n, auto&) { names.push_back(n); });
  return names;
}

bool any(const std::vector<std::string>& names, std::string_view prefix) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& n) { return n.starts_with(prefix); });
}

}  // namespace

TEST_CASE("a ConVIRT step runs no decoder and no local alignment, and its model has neither") {
  const auto names = one_step("convirt");
  const int text_blocks = static_cast<int>(model::Config::preset("tiny-resnet").uni_blocks);
  CHECK(Counted::attention_calls ==
        2 * text_blocks);  // forward and backward of the text encoder alone
  CHECK(Counted::local_calls == 0);
  CHECK(Counted::cross_entropy_calls == 0);
  CHECK(Counted::contrast_calls == 1);
  for (const char* part : {"decoder.", "memory.", "aggregator.", "proj.text_local"})
    CHECK_FALSE(any(names, part));
  CHECK((any(names, "proj.image_global") && any(names, "proj.text_global") &&
         any(names, "image.") && any(names, "text.")));
}

TEST_CASE("the other siblings run what they name") {
  const int text_blocks = static_cast<int>(model::Config::preset("tiny-resnet").uni_blocks),
            decoder_blocks = static_cast<int>(model::Config::preset("tiny-resnet").dec_blocks);
  SUBCASE("Clip") {
    one_step("clip");
    CHECK((Counted::attention_calls == 2 * text_blocks && Counted::local_calls == 0 &&
           Counted::cross_entropy_calls == 0));
  }
  SUBCASE("Gloria") {
    const auto names = one_step("gloria");
    CHECK((Counted::attention_calls == 2 * text_blocks && Counted::local_calls == 2 &&
           Counted::cross_entropy_calls == 0 && Counted::contrast_calls == 2));
    CHECK((any(names, "aggregator.") && !any(names, "decoder.")));
  }
  SUBCASE("CoCa") {
    const auto names = one_step("coca");
    CHECK((Counted::attention_calls == 2 * text_blocks + 4 * decoder_blocks &&
           Counted::local_calls == 0 && Counted::cross_entropy_calls == 1));
    CHECK((any(names, "decoder.fc_cap") && !any(names, "decoder.fc_sum") &&
           !any(names, "aggregator.")));
  }
}

TEST_CASE("a temperature that a system fixes is not trained, whatever the stage") {
  for (const char* name : {"convirt", "gloria", "mgca"}) {
    CAPTURE(name);
    const auto s = system::make_system<T, Counted>(name, small_config());
    nn::initialise(*s, 1);
    s->begin_stage(0);
    nn::for_each_parameter(*s, [&](const std::string& n, Parameter<T, Counted>& p) {
      if (n == "log_scale") CHECK_FALSE(p.trainable);
      if (n != "log_scale") CHECK(p.trainable);
    });
  }
}

TEST_CASE("a term of weight 0 costs nothing") {
  auto config = small_config();
  const auto calls = [&](const std::string& name, std::size_t stage) {
    one_step(name, config, stage);
    return std::array{Counted::attention_calls, Counted::local_calls, Counted::cross_entropy_calls,
                      Counted::contrast_calls};
  };
  const auto whole = calls("hybridmed", 1);
  config.lambda_cl = 0;
  const auto without_local = calls("hybridmed", 1);
  CHECK((whole[1] > 0 && without_local[1] == 0 && without_local[3] == whole[3] - 1));
  config.lambda_dis = config.lambda_sum = config.lambda_cap = 0;
  const auto global = calls("hybridmed", 1);
  CHECK((global[1] == 0 && global[2] == 0 && global[3] == 1));
  CHECK(global == calls("clip", 0));  // what is left is CLIP
}

TEST_CASE("an objective that needs a part which the model was built without is an error") {
  auto m = model::make_hybridmed<T, Counted>(small_config(), objective::InfoNce::needs);
  system::Composed align(m, 1.0 * objective::InfoNce{} + 2.0 * objective::Captioning{});
  CHECK_THROWS_WITH_AS(train::evaluate_step(align, batch_for(m), nn::Mode::evaluation()),
                       doctest::Contains("a part that this model was built without"), Error);
}

TEST_CASE("stages say what they read and compare") {
  const auto s = system::make_system<T, Counted>("hybridmed", small_config());
  using namespace representation;
  REQUIRE(s->stages().size() == 2);
  CHECK(s->stages()[0].reads() == (findings | impression));
  CHECK(s->stages()[1].reads() == (an_image | findings | impression));
  std::string names;
  for (const auto& loss : s->stages()[1].losses)
    names += loss.name + (loss.compares_samples ? "*" : "") + (loss.distils ? "+ " : " ");
  CHECK(names == "cg* cl* sum cap dis+ ");
  CHECK_FALSE(s->has_teacher());
  s->begin_stage(1);
  CHECK(s->has_teacher());
  s->begin_stage(0);
  CHECK_FALSE(s->has_teacher());
}

TEST_CASE("the facts of a system are those of the system") {
  for (const char* name : {"hybridmed", "clip", "siglip", "convirt", "gloria", "mgca", "coca"}) {
    CAPTURE(name);
    const auto facts = system::facts_of(name);
    const auto s = system::make_system<T, Counted>(name, small_config());
    CHECK(facts.name == name);
    CHECK(facts.stages == s->stages().size());
    const auto m = model::make_hybridmed<T, Counted>(small_config(), facts.parts);
    std::set<std::string> all(facts.parameters.begin(), facts.parameters.end()), mine;
    auto copy = m.clone();
    nn::for_each_parameter(copy, [&](const std::string& n, auto&) { all.insert(n); });
    nn::for_each_parameter(*s, [&](const std::string& n, auto&) { mine.insert(n); });
    CHECK(all == mine);
  }
}

TEST_CASE("a system knows which changed keys it does not read") {
  const auto unread = [](const char* name, auto&& change) {
    auto config = model::Config::preset("tiny-resnet");
    change(config);
    return system::make_system<T, Counted>(name, config)->unread_keys();
  };
  using Keys = std::vector<std::string>;
  for (const char* name : {"hybridmed", "clip", "siglip", "convirt", "gloria", "mgca", "coca"}) {
    CAPTURE(name);
    CHECK(unread(name, [](auto&) {}) == Keys{});
    CHECK(unread(name, [](auto& c) { c.d_e = 24; }) == Keys{});
  }
  const auto change = [](auto& c) {
    c.lambda_cl = 2;
    c.gamma1 = 3;
    c.dedup_targets = true;
    c.local_agg = "max";
    c.tau_d = 2;
    c.lambda_token = 0.5;
  };
  CHECK(unread("hybridmed", change) == Keys{"lambda_token"});
  CHECK(unread("clip", change) ==
        Keys{"lambda_cl", "lambda_token", "local_agg", "gamma1", "tau_d"});
  CHECK(unread("siglip", change) ==
        Keys{"lambda_cl", "lambda_token", "dedup_targets", "local_agg", "gamma1", "tau_d"});
  CHECK(unread("gloria", change) == Keys{"lambda_token", "local_agg", "tau_d"});
  CHECK(unread("mgca", change) == Keys{"lambda_cl", "local_agg", "gamma1", "tau_d"});
  CHECK(unread("clip", [](auto& c) { c.image_depth = 8; }) == Keys{"image_depth"});
  auto own = model::Config::preset("tiny-resnet");
  own.name = "no preset";  // so the defaults are ViT-B's, with patches of 16
  own.image_depth = model::Config().image_depth;
  own.image_heads = model::Config().image_heads;
  CHECK(system::make_system<T, Counted>("hybridmed", own)->unread_keys() == Keys{});
  CHECK(unread("hybridmed", [](auto& c) { c.resnet_depths = {1, 1, 1, 1}; }) == Keys{});
  // Parts that are not built, and terms that are not computed.
  const auto parts = [](auto& c) {
    c.dec_blocks = 3;
    c.grid = 5;
  };
  CHECK(unread("hybridmed", parts) == Keys{});
  CHECK(unread("clip", parts) == Keys{"grid", "dec_blocks"});
  CHECK(unread("gloria", parts) == Keys{"dec_blocks"});
  CHECK(unread("coca", parts) == Keys{"grid"});
  CHECK(unread("hybridmed", [](auto& c) {
          c.lambda_dis = 0;
          c.tau_d = 2;
        }) == Keys{"tau_d"});
  // Read by scores alone.
  CHECK(unread("mgca", [](auto& c) { c.gamma2 = 3; }) == Keys{});
  CHECK(unread("coca", [](auto& c) { c.gamma2 = 3; }) == Keys{"gamma2"});
  CHECK(unread("gloria", [](auto& c) { c.log_scale_init = 1; }) == Keys{"log_scale_init"});
}
