#pragma once
// Initial weights (method 2.6): embeddings N(0, .02), positions N(0, .01); per stack of width d and
// depth n: q, k, v d^-.5, output projections d^-.5 (2 n)^-.5, first feed-forward layer (2 d)^-.5;
// convolutions (2 / (out k k))^.5; other matrices N(0, .02); norms 1 and 0; biases 0.
#include <cmath>

#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/model/config.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::model {

/// Fills every parameter; each has a random stream of its own, so one model part does not depend on
/// another's size.
template <class M>
void initialise(M& model, const Config& c, std::uint64_t seed) {
  std::uint64_t stream = 0;
  nn::for_each_parameter(model, [&]<class T, class B>(const std::string& name, Parameter<T, B>& p) {
    check_interrupt("the model is initialised");
    const Philox random = Philox(seed).fork(++stream);
    const auto ends = [&](std::string_view s) { return name.ends_with(s); };
    const Shape& s = p.value.shape();
    const auto normal = [&](double stddev) {
      B::fill_normal(p.value.size(), random, stddev, p.value.data());
    };
    const auto constant = [&](double x) {
      B::fill(p.value.size(), static_cast<T>(x), p.value.data());
    };
    if (name == "log_scale") return constant(c.log_scale_init);
    if (s.rank() == 1)
      return ends(".bias") ? constant(0) : ends(".cls") ? normal(0.02) : constant(1);
    if (s.rank() == 4 && c.encoder == "resnet")
      return normal(std::sqrt(2.0 / static_cast<double>(s[0] * s[2] * s[3])));
    if (ends(".pos") || ends(".level_embed")) return normal(0.01);
    if (name.find(".blocks.") == name.npos || ends(".rel_bias")) return normal(0.02);
    const double in = static_cast<double>(s[1]), out = static_cast<double>(s[0]);
    if (ends("qkv.weight") || ends(".q.weight") || ends(".kv.weight"))
      return normal(1 / std::sqrt(in));
    if (ends("fc1.weight")) return normal(1 / std::sqrt(2 * in));
    Index depth = name.starts_with("text.")      ? c.uni_blocks
                  : name.starts_with("decoder.") ? c.dec_blocks
                                                 : c.image_depth;
    if (name.starts_with("image.") && c.encoder != "vit")
      depth = c.swin_depths[0] + c.swin_depths[1] + c.swin_depths[2] + c.swin_depths[3];
    normal(1 / std::sqrt(out) /
           std::sqrt(2 * static_cast<double>(depth)));  // proj, fc2: width of the residual stream
  });
}

}  // namespace hybridmed::model
