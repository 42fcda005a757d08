#pragma once
// Configuration of HybridMED. Keys, defaults and named presets are those of the PyTorch reference
// (tests/reference).
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::model {

struct Config {
  std::string name = "vit-b16";
  // image encoder
  std::string encoder = "vit";  // vit | swin | resnet
  Index image_size = 224, patch = 16;
  Index image_width = 768;  // ViT width; Swin embedding width C (levels C..8C); ResNet stem width w
  std::string resnet_block = "basic";  // basic (levels w..8w) | bottleneck (4w..32w)
  std::array<Index, 4> resnet_depths{2, 2, 2, 2};
  Index resnet_stem = 7;   // 7: 7x7 stride 2 and max-pool (patch 4) | 3: 3x3 stride 2 (patch 2)
  Index image_depth = 12;  // ViT blocks, a multiple of 4
  Index image_heads = 12;  // ViT heads
  std::array<Index, 4> swin_depths{2, 2, 6, 2}, swin_heads{3, 6, 12, 24};
  Index window = 7, image_mlp_ratio = 4;
  double image_ln_eps = 1e-6;
  // aggregation and joint space
  Index grid = 14, d_a = 512, d_e = 512;
  // text encoder and decoder
  Index d = 768, heads = 12, uni_blocks = 6, dec_blocks = 6, mlp_ratio = 4, vocab = 30522,
        t_findings = 160, t_impression = 64;
  double ln_eps = 1e-5;
  Index pad = 0, bos = 1, eos = 2;
  // objectives
  double lambda_cg = 1, lambda_cl = 1, lambda_sum = 1, lambda_cap = 1, lambda_dis = 1;
  double label_smoothing_cg = 0, label_smoothing_gen = 0;
  bool dedup_targets = false;
  std::string local_agg = "mean";  // mean | sum | max
  double gamma1 = 4, gamma2 = 5, gamma3 = 10, tau_d = 1;
  double log_scale_init = 2.6592600369327779,
         log_scale_max = 4.6051701859880918;  // ln(1 / 0.07), ln 100

  Index level_width(int level) const {
    if (encoder == "vit") return image_width;
    return image_width * (encoder == "resnet" && resnet_block == "bottleneck" ? 4 : 1) << level;
  }
  Index level_side(int level) const {
    if (patch < 1)
      fail("model", "Config", "patch: expected at least 1, got " + std::to_string(patch));
    return encoder == "vit" ? image_size / patch : (image_size / patch) >> level;
  }
  Index positions() const { return t_findings > t_impression ? t_findings : t_impression; }
  LocalAggregation aggregation() const {
    return local_agg == "sum"   ? LocalAggregation::sum
           : local_agg == "max" ? LocalAggregation::max
                                : LocalAggregation::mean;
  }

  /// Calls f(key, field) for every key, in declaration order.
  template <class F>
  void visit(F&& f) {
    f("name", name), f("encoder", encoder), f("image_size", image_size), f("patch", patch),
        f("image_width", image_width);
    f("resnet_block", resnet_block), f("resnet_depths", resnet_depths),
        f("resnet_stem", resnet_stem), f("image_depth", image_depth);
    f("image_heads", image_heads), f("swin_depths", swin_depths), f("swin_heads", swin_heads),
        f("window", window);
    f("image_mlp_ratio", image_mlp_ratio), f("image_ln_eps", image_ln_eps), f("grid", grid),
        f("d_a", d_a), f("d_e", d_e), f("d", d), f("heads", heads);
    f("uni_blocks", uni_blocks), f("dec_blocks", dec_blocks), f("mlp_ratio", mlp_ratio),
        f("vocab", vocab), f("t_findings", t_findings);
    f("t_impression", t_impression), f("ln_eps", ln_eps), f("pad", pad), f("bos", bos),
        f("eos", eos), f("lambda_cg", lambda_cg);
    f("lambda_cl", lambda_cl), f("lambda_sum", lambda_sum), f("lambda_cap", lambda_cap),
        f("lambda_dis", lambda_dis);
    f("label_smoothing_cg", label_smoothing_cg), f("label_smoothing_gen", label_smoothing_gen),
        f("dedup_targets", dedup_targets);
    f("local_agg", local_agg), f("gamma1", gamma1), f("gamma2", gamma2), f("gamma3", gamma3),
        f("tau_d", tau_d);
    f("log_scale_init", log_scale_init), f("log_scale_max", log_scale_max);
  }

  /// Throws Error naming the first key whose value cannot work.
  void validate() const {
    const auto need = [](bool ok, const char* key, const std::string& why) {
      if (!ok) fail("model", "Config", std::string(key) + ": " + why);
    };
    for (const auto& [key, v] : {std::pair{"image_size", image_size},
                                 {"patch", patch},
                                 {"image_width", image_width},
                                 {"image_depth", image_depth},
                                 {"image_heads", image_heads},
                                 {"window", window},
                                 {"image_mlp_ratio", image_mlp_ratio},
                                 {"grid", grid},
                                 {"d_a", d_a},
                                 {"d_e", d_e},
                                 {"d", d},
                                 {"heads", heads},
                                 {"uni_blocks", uni_blocks},
                                 {"dec_blocks", dec_blocks},
                                 {"mlp_ratio", mlp_ratio}})
      need(v > 0 && v <= 65536, key, "expected 1..65536, got " + std::to_string(v));
    for (const auto& [key, v] : {std::pair{"image_depth", image_depth},
                                 {"uni_blocks", uni_blocks},
                                 {"dec_blocks", dec_blocks}})
      need(v <= 128, key, "expected at most 128 blocks, got " + std::to_string(v));
    need(encoder == "vit" || encoder == "swin" || encoder == "resnet", "encoder",
         "expected vit, swin or resnet, got '" + encoder + "'");
    need(local_agg == "mean" || local_agg == "sum" || local_agg == "max", "local_agg",
         "expected mean, sum or max, got '" + local_agg + "'");
    need(image_size % patch == 0, "image_size",
         "expected a multiple of patch = " + std::to_string(patch) + ", got " +
             std::to_string(image_size));
    need(d % heads == 0, "heads",
         "expected a divisor of d = " + std::to_string(d) + ", got " + std::to_string(heads));
    need(vocab > 4 && vocab <= 10000000, "vocab",
         "expected 5..10000000, got " + std::to_string(vocab));
    need(t_findings >= 3 && t_findings <= 65536, "t_findings",
         "expected 3..65536, got " + std::to_string(t_findings));
    need(t_impression >= 3 && t_impression <= 65536, "t_impression",
         "expected 3..65536, got " + std::to_string(t_impression));
    // Beyond these a value is no choice but a slip: exponentials overflow, norms vanish, a term
    // drowns all others.
    const auto between = [&](const char* key, double v, double least, double most) {
      char text[96];
      std::snprintf(text, sizeof text, "expected a number from %g to %g, got %g", least, most, v);
      need(v >= least && v <= most, key, text);
    };
    between("tau_d", tau_d, 0.01, 100);
    for (const auto& [key, v] :
         {std::pair{"gamma1", gamma1}, {"gamma2", gamma2}, {"gamma3", gamma3}})
      between(key, v, 1e-6, 1e4);
    for (const auto& [key, v] : {std::pair{"ln_eps", ln_eps}, {"image_ln_eps", image_ln_eps}})
      between(key, v, 1e-15, 0.1);
    for (const auto& [key, v] : {std::pair{"lambda_cg", lambda_cg},
                                 {"lambda_cl", lambda_cl},
                                 {"lambda_sum", lambda_sum},
                                 {"lambda_cap", lambda_cap},
                                 {"lambda_dis", lambda_dis}})
      between(key, v, 0, 1e6);
    for (const auto& [key, v] : {std::pair{"label_smoothing_cg", label_smoothing_cg},
                                 {"label_smoothing_gen", label_smoothing_gen}})
      need(v >= 0 && v < 1, key, "expected at least 0 and below 1, got " + std::to_string(v));
    need(log_scale_max >= 0 && log_scale_max <= 80, "log_scale_max",
         "expected 0 to 80, got " + std::to_string(log_scale_max));
    need(log_scale_init >= 0 && log_scale_init <= log_scale_max, "log_scale_init",
         "expected 0 to log_scale_max, got " + std::to_string(log_scale_init));
    for (Index id : {pad, bos, eos})
      need(id >= 0 && id < vocab, "pad, bos, eos",
           "expected ids below vocab = " + std::to_string(vocab));
    need(pad != bos && pad != eos && bos != eos, "pad, bos, eos", "expected three different ids");
    if (encoder == "vit") {
      need(image_depth % 4 == 0, "image_depth",
           "expected a multiple of 4 (four levels), got " + std::to_string(image_depth));
      need(image_width % image_heads == 0, "image_heads",
           "expected a divisor of image_width = " + std::to_string(image_width));
    } else {
      need((image_size / patch) % 8 == 0, "image_size",
           "expected image_size / patch to be a multiple of 8 (four levels)");
      for (int l = 0; l < 4; ++l) {
        const auto i = static_cast<std::size_t>(l);
        if (encoder == "swin") {
          need(swin_depths[i] > 0 && swin_depths[i] <= 64, "swin_depths",
               "expected 1 to 64 blocks per level");
          need(swin_heads[i] > 0 && level_width(l) % swin_heads[i] == 0, "swin_heads",
               "expected divisors of the level widths");
          need(level_side(l) % (window < level_side(l) ? window : level_side(l)) == 0, "window",
               "expected every level to be a whole number of windows");
        } else {
          need(resnet_depths[i] > 0 && resnet_depths[i] <= 64, "resnet_depths",
               "expected 1 to 64 blocks per level");
        }
      }
      if (encoder == "resnet") {
        need(resnet_block == "basic" || resnet_block == "bottleneck", "resnet_block",
             "expected basic or bottleneck, got '" + resnet_block + "'");
        need((resnet_stem == 7 && patch == 4) || (resnet_stem == 3 && patch == 2), "resnet_stem",
             "expected 7 with patch 4, or 3 with patch 2");
      }
    }
  }

  static Config preset(std::string_view name) {
    Config c;
    c.name = name;
    const auto tiny = [&] {
      c.image_size = 64, c.patch = 8, c.image_width = 64, c.image_depth = 4, c.image_heads = 4,
      c.grid = 6, c.d_a = 40, c.d_e = 48, c.d = 64, c.heads = 4;
      c.uni_blocks = 2, c.dec_blocks = 2, c.vocab = 512, c.t_findings = 48, c.t_impression = 24;
    };
    if (name == "vit-b16") {
    } else if (name == "tiny") {
      tiny();
    } else if (name == "tiny-swin") {
      tiny();
      c.encoder = "swin", c.patch = 2, c.image_width = 8, c.swin_depths = {2, 2, 2, 2},
      c.swin_heads = {1, 2, 2, 4}, c.window = 4, c.grid = 8, c.image_ln_eps = 1e-5;
    } else if (name == "tiny-resnet") {
      tiny();
      c.encoder = "resnet", c.patch = 2, c.image_width = 8, c.resnet_stem = 3,
      c.resnet_depths = {1, 2, 1, 1}, c.grid = 8, c.image_ln_eps = 1e-5;
    } else if (name == "small") {
      c.image_size = 128, c.image_width = 256, c.image_depth = 8, c.image_heads = 4, c.grid = 8,
      c.d_a = 256, c.d_e = 256, c.d = 256, c.heads = 4;
      c.uni_blocks = 4, c.dec_blocks = 4, c.vocab = 8192, c.t_findings = 96, c.t_impression = 48;
    } else if (name == "swin-t") {
      c.encoder = "swin", c.patch = 4, c.image_width = 96, c.image_ln_eps = 1e-5;
    } else if (name == "resnet50") {
      c.encoder = "resnet", c.patch = 4, c.image_width = 64, c.resnet_block = "bottleneck",
      c.resnet_depths = {3, 4, 6, 3}, c.image_ln_eps = 1e-5;
    } else {
      fail("model", "Config::preset", "unknown preset '" + std::string(name) + "'",
           "one of tiny, tiny-swin, tiny-resnet, small, vit-b16, swin-t, resnet50");
    }
    return c;
  }
};

}  // namespace hybridmed::model
