// Item 2: what each loss computes and trains, and what it leaves alone.
#include <algorithm>
#include <set>

#include "gradients.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::objective;
using namespace hybridmed::representation;

namespace {

/// Names that received a gradient, and those of them whose gradient is not zero.
struct Reached {
  std::set<std::string> defined, moving;
  bool any(std::string_view part) const {
    return std::any_of(defined.begin(), defined.end(),
                       [&](const std::string& n) { return n.find(part) != n.npos; });
  }
};
template <class C>
Reached reached(C& composed) {
  Reached r;
  nn::for_each_parameter(composed, [&](const std::string& name, auto& p) {
    if (!p.slot.grad.defined()) return;
    r.defined.insert(name);
    if (largest(values(p.slot.grad)) > 0) r.moving.insert(name);
  });
  return r;
}
std::set<std::string> names_with(Model& m, const std::vector<std::string_view>& parts) {
  std::set<std::string> found;
  nn::for_each_parameter(m, [&](const std::string& name, auto&) {
    for (std::string_view part : parts)
      if (("." + name).find(part) != std::string::npos) found.insert(name);
  });
  return found;
}

}  // namespace

TEST_CASE(
    "2. both branches train one self-attention and feed-forward part, and nothing of each other") {
  for_each_preset([](Model& m, const model::Config& c) {
    const auto b = batch(m, studies());
    const auto teacher = other_teacher(c);
    const auto shared =
        names_with(m, {".decoder.blocks.0.sa.", ".decoder.blocks.1.sa.", ".ffn.",
                       ".decoder.blocks.0.ln1.", ".decoder.blocks.1.ln3.", ".decoder.norm."});
    CHECK(shared.size() == 2u * (4 + 4) + 2 + 2 + 2);
    const auto contains = [](const std::set<std::string>& all, const std::set<std::string>& part) {
      return std::includes(all.begin(), all.end(), part.begin(), part.end());
    };

    system::Composed captioning(m, 1.0 * Captioning{});
    differentiate(captioning, b);
    const Reached cap = reached(captioning);
    const Values cap_qkv = gradient(m.decoder.blocks[1].sa.qkv.weight),
                 cap_fc1 = gradient(m.decoder.blocks[0].ffn.fc1.weight);
    CHECK(contains(cap.moving, shared));
    CHECK(contains(cap.moving, names_with(m, {".cap.q.weight", ".cap.kv.weight", ".cap.proj.",
                                              ".cap.ln2.", ".cap.lnkv.", ".fc_cap.", ".memory."})));
    CHECK(contains(cap.moving, names_with(m, {".image.level_norm.3.", ".image.patch.weight",
                                              ".image.stem.weight"})));
    CHECK_FALSE(cap.any(".sum."));
    CHECK_FALSE(cap.any("fc_sum"));
    for (const std::string part : {"aggregator.", "proj.image", "proj.text", "log_scale"})
      CHECK_FALSE(cap.any(part));

    system::Composed summarization(m, 1.0 * Summarization{});
    differentiate(summarization, b);
    const Reached sum = reached(summarization);
    const Values sum_qkv = gradient(m.decoder.blocks[1].sa.qkv.weight),
                 sum_fc1 = gradient(m.decoder.blocks[0].ffn.fc1.weight);
    CHECK(contains(sum.moving, shared));
    CHECK(contains(sum.moving, names_with(m, {".sum.q.weight", ".sum.kv.weight", ".sum.proj.",
                                              ".sum.ln2.", ".sum.lnkv.", ".fc_sum."})));
    for (const std::string part :
         {".cap.", "fc_cap", "image", "memory.", "aggregator.", "proj.text", "log_scale"})
      CHECK_FALSE(sum.any(part));

    // One storage: the gradients of the two losses meet in it.
    system::Composed generation(m, Captioning{} + Summarization{});
    differentiate(generation, b);
    CHECK(difference(gradient(m.decoder.blocks[1].sa.qkv.weight),
                     test::values(add(tensor<double, B>(cap_qkv, {3 * c.d, c.d}),
                                      tensor<double, B>(sum_qkv, {3 * c.d, c.d})))) <= 1e-12);
    CHECK(difference(gradient(m.decoder.blocks[0].ffn.fc1.weight),
                     test::values(add(tensor<double, B>(cap_fc1, {4 * c.d, c.d}),
                                      tensor<double, B>(sum_fc1, {4 * c.d, c.d})))) <= 1e-12);

    // Distillation teaches the captioning branch alone.
    system::Composed distillation(m, 1.0 * LogitDistillation{});
    CHECK(differentiate(distillation, taught(b, teacher)) > 0);
    const Reached dis = reached(distillation);
    CHECK(contains(dis.moving, shared));
    CHECK(contains(dis.moving, names_with(m, {".cap.proj.", ".fc_cap."})));
    CHECK_FALSE(dis.any(".sum."));
    CHECK_FALSE(dis.any("fc_sum"));
    auto copy = teacher;
    nn::for_each_parameter(copy,
                           [](const std::string&, auto& p) { CHECK_FALSE(p.slot.grad.defined()); });
  });
}

TEST_CASE("2. global alignment alone computes and trains nothing local or generative") {
  for_each_preset([](Model& m, const model::Config&) {
    const auto b = batch(m, studies());
    const auto r = represent(m, InfoNce::needs, b, nn::Mode::inspection(), everything);
    CHECK(get<ImageGlobal>(r).projected.rows() == 4);  // the samples with an impression
    CHECK(get<ImpressionGlobal>(r).projected.rows() == 4);
    CHECK(test::values(get<ImpressionGlobal>(r).keys) == Values{11, 12, 11, 14});
    CHECK_THROWS_AS(get<ImageTokens>(r), Error);  // nothing else is set
    CHECK_THROWS_AS(get<FindingsTokens>(r), Error);
    CHECK_THROWS_AS(get<SummarizationLogits>(r), Error);
    CHECK_THROWS_AS(get<CaptioningLogits>(r), Error);
    CHECK_THROWS_AS(get<TeacherLogits>(r), Error);

    system::Composed global(m, 1.0 * InfoNce{});
    differentiate(global, b);
    const Reached cg = reached(global);
    for (const std::string part : {"decoder.", "aggregator.", "proj.text_local", "memory."})
      CHECK_FALSE(cg.any(part));
    for (const std::string name :
         {"proj.image_global.weight", "proj.text_global.weight", "log_scale", "text.cls",
          "text.norm.weight", "text.token_embed", "image.level_norm.3.weight"}) {
      CAPTURE(name);
      CHECK(cg.moving.count(name) == 1);
    }
    for (const std::string name :
         {"image.level_norm.0", "image.level_norm.1", "image.level_norm.2"})
      CHECK_FALSE(cg.any(name));

    system::Composed local(m, 1.0 * LocalAlignment{});
    differentiate(local, b);
    const Reached cl = reached(local);
    for (const std::string part :
         {"decoder.", "proj.text_global", "proj.image_global", "memory.", "log_scale", "text.norm"})
      CHECK_FALSE(cl.any(part));
    CHECK(cl.moving.count("text.cls") == 0);  // it sends nothing to the words
    for (const std::string name : {"proj.text_local.weight", "aggregator.level_embed",
                                   "aggregator.lateral.0.weight", "image.level_norm.0.weight"}) {
      CAPTURE(name);
      CHECK(cl.moving.count(name) == 1);
    }
  });
}
